//! What keeps a verb from taking a tree away under a machine.

use std::io;

use store::{Environment, EnvironmentName, StoreError};

use super::{Failure, Site, machine};
use crate::boot::rooted_on;
use crate::control::{Client, Reply as Answer, Request};
use crate::roots::holder;

/// An environment that the running server, if there is one, has let go of.
///
/// Dropped without [`Withheld::end`], as when the verb fails, the server takes it up again by itself.
#[derive(Debug)]
#[must_use]
pub(super) struct Withheld {
    server: Option<Client>,
}

impl Withheld {
    /// Has the running server let go of an environment for as long as a verb works on its tree.
    /// Without `force` that is refused while machines have their root in it.
    pub(super) fn begin(
        site: &Site,
        name: &EnvironmentName,
        verb: &str,
        force: bool,
    ) -> Result<Self, Failure> {
        let Some(mut server) = site.server()? else {
            if !force {
                refuse_rooted(site, name, verb)?;
            }
            return Ok(Self { server: None });
        };
        let environment = name.to_string();
        let asked = server.ask(&Request::Withhold { environment, force });
        match asked.map_err(|error| unknown(name, verb, &error.to_string()))? {
            Answer::Done => Ok(Self { server: Some(server) }),
            Answer::Living { machines } => Err(living(name, verb, &machines)),
            Answer::Failed { message } => Err(unknown(name, verb, &message)),
            Answer::Notice(_) | Answer::Status(_) => {
                Err(unknown(name, verb, "it gave another answer"))
            }
        }
    }

    /// Has the server serve what is there now.
    pub(super) fn end(self) -> Result<(), Failure> {
        let Some(mut server) = self.server else { return Ok(()) };
        match server.ask(&Request::Reload) {
            Ok(Answer::Failed { message }) => Err(Failure::could_not(format_args!(
                "it is done, but the running server does not take it over: {message}"
            ))),
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::could_not(format_args!(
                "it is done, but the running server did not answer: {error}"
            ))),
        }
    }
}

/// Refuses a verb while machines have their root in an environment.
pub(super) fn refuse_living(
    site: &Site,
    name: &EnvironmentName,
    verb: &str,
) -> Result<(), Failure> {
    let Some(mut server) = site.server()? else { return refuse_rooted(site, name, verb) };
    let environment = name.to_string();
    let asked: io::Result<Answer> = server.ask(&Request::Living { environment });
    match asked.map_err(|error| unknown(name, verb, &error.to_string()))? {
        Answer::Living { machines } if machines.is_empty() => Ok(()),
        Answer::Living { machines } => Err(living(name, verb, &machines)),
        Answer::Failed { message } => Err(unknown(name, verb, &message)),
        Answer::Done | Answer::Notice(_) | Answer::Status(_) => {
            Err(unknown(name, verb, "it gave another answer"))
        }
    }
}

/// Refuses a verb while machines are to boot an environment.
pub(super) fn refuse_assigned(
    site: &Site,
    name: &EnvironmentName,
    verb: &str,
) -> Result<(), Failure> {
    if !site.state().exists() {
        return Ok(());
    }
    let roster = machine::roster(&site.open_state()?)?;
    if let Ok(environment) = site.open()?.get(name)
        && let Some(holder) = holder(&environment)
        && roster.iter().any(|(machine, _)| machine.as_str() == holder)
    {
        return Err(Failure::no(format_args!(
            "{name} has the data of {holder} in it: {verb} with -f, if nobody needs them any more"
        )));
    }
    let assigned = roster.iter().filter(|(_, entry)| entry.machine.is_assigned(name.as_str()));
    let assigned: Vec<_> = assigned.map(|(machine, _)| machine.to_string()).collect();
    if !assigned.is_empty() {
        return Err(Failure::no(format_args!(
            "{name} is what {} boots: give it another with `netbe sharepxe`, or {verb} with -f",
            assigned.join(", ")
        )));
    }
    if roster.default_environment() == Some(name.as_str()) {
        return Err(Failure::no(format_args!(
            "{name} is what machines boot by default: set another with `netbe sharepxe --default`, \
             or {verb} with -f"
        )));
    }
    Ok(())
}

/// Refuses while machines may be running from an environment, as far as the last server noted.
fn refuse_rooted(site: &Site, name: &EnvironmentName, verb: &str) -> Result<(), Failure> {
    if !site.state().exists() {
        return Ok(());
    }
    let uuid = match site.open()?.get(name) {
        Ok(Environment { uuid, .. }) => uuid,
        // Nobody can have booted what nobody could read.
        Err(StoreError::Broken { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let machines = rooted_on(&site.open_state()?, uuid).map_err(Failure::could_not)?;
    if machines.is_empty() {
        return Ok(());
    }
    Err(Failure::no(format_args!(
        "{name} was the root of {} when the server ended, and may still be: switch it off, or {verb} \
         with -f",
        machines.join(", ")
    )))
}

fn living(name: &EnvironmentName, verb: &str, machines: &[String]) -> Failure {
    let machines = machines.join(", ");
    Failure::no(format_args!(
        "{name} is the root of {machines}: switch them off, or {verb} with -f"
    ))
}

fn unknown(name: &EnvironmentName, verb: &str, why: &str) -> Failure {
    Failure::could_not(format_args!(
        "the running server does not say which machines live on {name}: {why}; stop it, or {verb} \
         with -f"
    ))
}
