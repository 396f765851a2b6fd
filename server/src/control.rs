//! The UNIX socket by which commands talk to the running server.
//!
//! A command sends one request, a line of JSON, and reads lines of JSON: one, or with
//! [`Request::Watch`] as many as come. The socket lies in the state directory and is its owner's
//! alone; what comes from it is bounded nevertheless.

mod message;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net as blocking;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use store::EnvironmentName;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast};
use tokio::time;
use uuid::Uuid;

pub use self::message::{
    Explanation, InterfaceStatus, Living, MachineStatus, Reply, Request, Seen, Status, Visitor,
};
use crate::site::events::Event;

/// The server, as far as commands reach it.
pub trait Controlled: Send + Sync {
    /// How everything stands.
    fn status(&self) -> Status;

    /// Why a machine is where it is; by name, Ethernet address or IP address.
    fn explain(&self, machine: &str) -> Result<Explanation, String>;

    /// Reads machines again, and the environments of these names; all, if none is named. May wait for
    /// a disk.
    fn reload(&self, environments: Option<&[String]>) -> Result<(), String>;

    /// Reads netbe.toml again, and does as it says or, where something is wrong with it, changes nothing;
    /// then reloads everything. Gives the keys that have other values. With `dry` it only looks whether
    /// that could be. May wait for a disk.
    fn reconfigure(&self, dry: bool) -> Result<Vec<String>, String>;

    /// Who lives on an environment, has data in it, or uses it. May wait for a disk.
    fn living_on(&self, environment: &str) -> Result<Living, String>;

    /// Closes an environment until [`Controlled::resume`]: whoever lives on it waits, and nobody boots it.
    /// Without `force` it does not if somebody does, and returns who. May wait for a disk.
    fn hold(&self, environment: &str, force: bool) -> Result<Result<Holding, Living>, String>;

    /// Serves what was held as it is now, and what has these names. May wait for a disk.
    fn resume(&self, holding: &Holding, environments: &[String]) -> Result<(), String>;

    /// Closes the whole store until [`Controlled::attach`]; returns the machines that live on it, which
    /// wait. May wait for a disk.
    fn detach(&self) -> Result<Living, String>;

    /// Serves the store again and reads everything as [`Controlled::reload`] does.
    fn attach(&self) -> Result<(), String>;

    /// What happens from now on.
    fn watch(&self) -> broadcast::Receiver<Arc<Event>>;
}

/// An environment that a command has for itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holding {
    /// By what name it was asked for.
    pub name: EnvironmentName,
    /// Its identity, and those of the roots whose machine has its data in it; none, if nothing is known
    /// of it.
    pub environments: Vec<Uuid>,
}

/// Binds the socket. The caller holds the state directory, so that what lies there is a leftover.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The directory is its owner's alone, so that nobody comes in before the mode is set.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers commands; dropping the future ends it.
pub async fn serve(listener: UnixListener, server: Arc<dyn Controlled>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // One command more waits until another one is done.
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // A command that went away, or no descriptor to spare just now: machines are served on.
            Err(error) => {
                tracing::debug!("a command was not accepted: {error}");
                time::sleep(PAUSE).await;
                continue;
            }
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, server).await {
                tracing::debug!("a command went away: {error}");
            }
            drop(place);
        });
    }
}

async fn converse(stream: UnixStream, server: Arc<dyn Controlled>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let line = time::timeout(IO_TIMEOUT, read_line(reader)).await.map_err(io::Error::from)?;
    let (line, reader) = line?;
    let reply = match serde_json::from_slice::<Request>(&line) {
        Err(error) => Reply::Failed { message: format!("the request is malformed: {error}") },
        Ok(Request::Ping) => Reply::Done,
        Ok(Request::Status) => Reply::Status(server.status()),
        Ok(Request::Explain { machine }) => match server.explain(&machine) {
            Ok(explanation) => Reply::Explanation(Box::new(explanation)),
            Err(message) => Reply::Failed { message },
        },
        Ok(Request::Living { environment }) => {
            match within(READ_PATIENCE, move || server.living_on(&environment)).await? {
                Ok(living) => Reply::Living(living),
                Err(message) => Reply::Failed { message },
            }
        }
        Ok(Request::Detach) => return detach(reader, writer, server).await,
        Ok(Request::Reload { environments }) => {
            done(within(READ_PATIENCE, move || server.reload(environments.as_deref())).await?)
        }
        Ok(Request::Reconfigure { dry }) => {
            match within(READ_PATIENCE, move || server.reconfigure(dry)).await? {
                Ok(changed) => Reply::Reconfigured { changed },
                Err(message) => Reply::Failed { message },
            }
        }
        Ok(Request::Watch) => return watch(reader, writer, &*server).await,
        Ok(Request::Hold { environment, force }) => {
            return hold(reader, writer, server, environment, force).await;
        }
    };
    send(&mut writer, &reply).await
}

/// Calls what may wait for a disk.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(io::Error::other)
}

/// The same for what changes nothing that has to be undone: after so long the command is told that the
/// disk does not answer, and the call goes on by itself.
async fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> io::Result<Result<T, String>> {
    time::timeout(limit, blocking(call)).await.unwrap_or_else(|_elapsed| {
        let seconds = limit.as_secs();
        Ok(Err(format!(
            "the store has not answered the server for {seconds} s: the server will do it as soon as the \
             store answers; see `netbe status`"
        )))
    })
}

/// The same for what takes something from its users: what comes of it after that time is undone.
async fn taken<T: Send + 'static, U>(
    limit: Duration,
    take: impl FnOnce() -> Result<T, String> + Send + 'static,
    undo: impl FnOnce(T) -> U + Send + 'static,
) -> io::Result<Result<T, String>>
where
    U: Send + 'static,
{
    let mut taking = tokio::task::spawn_blocking(take);
    if let Ok(taken) = time::timeout(limit, &mut taking).await {
        return taken.map_err(io::Error::other);
    }
    tokio::spawn(async move {
        if let Ok(Ok(taken)) = taking.await {
            // The command has gone: whoever undoes it tells what fails.
            drop(blocking(move || undo(taken)).await);
        }
    });
    let seconds = limit.as_secs();
    Ok(Err(format!(
        "the store has not answered it for {seconds} s: nothing was changed, and machines continue as soon \
         as it answers; see `netbe status`, and try again then"
    )))
}

fn done(outcome: Result<(), String>) -> Reply {
    outcome.map_or_else(|message| Reply::Failed { message }, |()| Reply::Done)
}

/// Holds an environment for as long as the command takes, however that ends.
async fn hold(
    reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    server: Arc<dyn Controlled>,
    environment: String,
    force: bool,
) -> io::Result<()> {
    let (holder, releaser) = (Arc::clone(&server), Arc::clone(&server));
    let hold = move || holder.hold(&environment, force);
    let undo = move |held: Result<Holding, Living>| held.map(|one| releaser.resume(&one, &[]));
    let holding = match taken(HOLD_PATIENCE, hold, undo).await? {
        Ok(Ok(holding)) => holding,
        Ok(Err(living)) => return send(&mut writer, &Reply::Living(living)).await,
        Err(message) => return send(&mut writer, &Reply::Failed { message }).await,
    };
    let held = Reply::Held { environments: holding.environments.clone() };
    let asked = wait_for_end(reader, &mut writer, &held).await;
    let changed = asked.clone().unwrap_or_default();
    let resumed = within(READ_PATIENCE, move || server.resume(&holding, &changed)).await?;
    if asked.is_some() { send(&mut writer, &done(resumed)).await } else { Ok(()) }
}

/// Leaves the store alone for as long as the command takes, however that ends.
async fn detach(
    reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    server: Arc<dyn Controlled>,
) -> io::Result<()> {
    let (holder, releaser) = (Arc::clone(&server), Arc::clone(&server));
    let undo = move |_living| releaser.attach();
    let living = match taken(READ_PATIENCE, move || holder.detach(), undo).await? {
        Ok(living) => living,
        Err(message) => return send(&mut writer, &Reply::Failed { message }).await,
    };
    let asked = wait_for_end(reader, &mut writer, &Reply::Living(living)).await;
    let attached = within(READ_PATIENCE, move || server.attach()).await?;
    if asked.is_some() { send(&mut writer, &done(attached)).await } else { Ok(()) }
}

/// Tells a command that it may begin, and waits until it asks for more or ends. Gives the names of the
/// environments that it says it has changed; `None` when it has ended.
async fn wait_for_end(
    reader: OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    reply: &Reply,
) -> Option<Vec<String>> {
    // A command that went away has what it held served again all the same.
    send(writer, reply).await.ok()?;
    let (line, _) = read_line(reader).await.ok()?;
    if line.is_empty() {
        return None;
    }
    match serde_json::from_slice::<Request>(&line) {
        Ok(Request::Reload { environments }) => Some(environments.unwrap_or_default()),
        // Whatever else it says is its end too.
        Ok(_) | Err(_) => Some(Vec::new()),
    }
}

async fn read_line(reader: OwnedReadHalf) -> io::Result<(Vec<u8>, OwnedReadHalf)> {
    let mut limited = tokio::io::BufReader::new(reader).take(REQUEST);
    let mut line = Vec::new();
    limited.read_until(b'\n', &mut line).await?;
    Ok((line, limited.into_inner().into_inner()))
}

async fn watch(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    server: &dyn Controlled,
) -> io::Result<()> {
    let mut events = server.watch();
    let mut beats = time::interval(BEAT);
    let mut byte = [0];
    loop {
        let reply = tokio::select! {
            _ = beats.tick() => Reply::Status(server.status()),
            event = events.recv() => match event {
                Ok(event) => Reply::Event((*event).clone()),
                // It was too slow for some; the next status shows how things stand.
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            gone = reader.read(&mut byte) => match gone? {
                0 => return Ok(()),
                _ => continue,
            },
        };
        send(&mut writer, &reply).await?;
    }
}

async fn send(writer: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(io::Error::other)?;
    line.push(b'\n');
    time::timeout(IO_TIMEOUT, writer.write_all(&line)).await.map_err(io::Error::from)?
}

/// A command's end of the socket.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<blocking::UnixStream>,
}

impl Client {
    /// Connects to the server of a state directory's socket; `None` when none runs.
    pub fn connect(path: &Path) -> io::Result<Option<Self>> {
        match blocking::UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_write_timeout(Some(IO_TIMEOUT))?;
                Ok(Some(Self { stream: BufReader::new(stream) }))
            }
            // The socket of a server that was killed is left behind.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks, and reads the first line of the answer.
    pub fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        let timeout = match request {
            Request::Detach
            | Request::Hold { .. }
            | Request::Living { .. }
            | Request::Reconfigure { .. }
            | Request::Reload { .. } => DISK_REPLY_TIMEOUT,
            // A watch says something twice a second; anything else is answered soon.
            Request::Explain { .. } | Request::Ping | Request::Status | Request::Watch => {
                REPLY_TIMEOUT
            }
        };
        self.stream.get_mut().set_read_timeout(Some(timeout))?;
        let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        self.go_on()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads the next line; `None` when the server has ended.
    pub fn go_on(&mut self) -> io::Result<Option<Reply>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).map_err(io::Error::other)
    }
}

/// How long the server may take to answer what it knows.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long it may take for what waits for a disk: a store of many environments is read in seconds, on a
/// busy host in minutes.
const DISK_REPLY_TIMEOUT: Duration = Duration::from_secs(600);

/// How long the server waits for a disk before it says so; a command waits longer.
const READ_PATIENCE: Duration = Duration::from_secs(300);

/// How long it may take to close one environment: its calls come to their end, and it is unmounted.
const HOLD_PATIENCE: Duration = Duration::from_secs(60);

/// Longest request, in bytes.
const REQUEST: u64 = 4096;

/// How long a command may take to say what it wants, or to take the answer.
const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after a command that could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// How often who watches is told how everything stands.
const BEAT: Duration = Duration::from_millis(500);

/// Commands at a time.
const CONNECTIONS: usize = 64;

#[cfg(test)]
mod test {
    use std::sync::Mutex;

    use super::*;

    /// What is held back is listed.
    struct Fake(broadcast::Sender<Arc<Event>>, Arc<Mutex<Vec<String>>>);

    impl Controlled for Fake {
        fn status(&self) -> Status {
            Status { version: "1".to_owned(), ..Status::default() }
        }

        fn explain(&self, machine: &str) -> Result<Explanation, String> {
            let name = machine.to_owned();
            let machine = MachineStatus { name, ..MachineStatus::default() };
            Ok(Explanation { machine, evidence: Vec::new() })
        }

        fn reload(&self, environments: Option<&[String]>) -> Result<(), String> {
            let all = "machine a is written twice".to_owned();
            Err(environments.map_or(all, |names| names.join(" ")))
        }

        fn reconfigure(&self, dry: bool) -> Result<Vec<String>, String> {
            if dry { Ok(vec!["ranges".to_owned()]) } else { Err("line 3: no".to_owned()) }
        }

        fn living_on(&self, environment: &str) -> Result<Living, String> {
            Ok(Living { machines: vec![format!("on {environment}")], visitors: Vec::new() })
        }

        fn hold(&self, environment: &str, force: bool) -> Result<Result<Holding, Living>, String> {
            let mut living = Living::default();
            match environment {
                _ if force => {}
                "base" => living.machines.push("desk".to_owned()),
                "ports" => living.visitors.push(visitor()),
                _ => {}
            }
            if !living.is_nobody() {
                return Ok(Err(living));
            }
            self.1.lock().unwrap().push(environment.to_owned());
            let name = environment.parse().unwrap();
            Ok(Ok(Holding { name, environments: vec![Uuid::from_u128(1)] }))
        }

        fn resume(&self, holding: &Holding, environments: &[String]) -> Result<(), String> {
            self.1.lock().unwrap().retain(|held| held != holding.name.as_str());
            if environments.is_empty() { Ok(()) } else { Err(environments.join(" ")) }
        }

        fn detach(&self) -> Result<Living, String> {
            self.1.lock().unwrap().push("all".to_owned());
            Ok(on_desk())
        }

        fn attach(&self) -> Result<(), String> {
            self.1.lock().unwrap().clear();
            Ok(())
        }

        fn watch(&self) -> broadcast::Receiver<Arc<Event>> {
            self.0.subscribe()
        }
    }

    const RELOAD: Request = Request::Reload { environments: None };

    fn held() -> Reply {
        Reply::Held { environments: vec![Uuid::from_u128(1)] }
    }

    fn on_desk() -> Living {
        Living { machines: vec!["desk".to_owned()], visitors: Vec::new() }
    }

    fn visitor() -> Visitor {
        Visitor { name: "10.77.0.2".to_owned(), seen: 12.5 }
    }

    /// Runs `talk` as a command, in a thread, while the server serves.
    async fn with_server<T: Send + 'static>(talk: impl FnOnce(&Path) -> T + Send + 'static) -> T {
        with_held(|path, _| talk(path)).await
    }

    /// The same, seeing what is held back.
    async fn with_held<T: Send + 'static>(
        talk: impl FnOnce(&Path, &Mutex<Vec<String>>) -> T + Send + 'static,
    ) -> T {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let listener = bind(&path).unwrap();
        let (events, _) = broadcast::channel(4);
        let held = Arc::new(Mutex::default());
        let fake = Arc::new(Fake(events, Arc::clone(&held)));
        let serving = tokio::spawn(serve(listener, fake));
        let answer = tokio::task::spawn_blocking(move || talk(&path, &held)).await.unwrap();
        serving.abort();
        answer
    }

    fn ask(path: &Path, request: &Request) -> Reply {
        Client::connect(path).unwrap().unwrap().ask(request).unwrap()
    }

    #[tokio::test]
    async fn requests_are_answered() {
        with_server(|path| {
            assert_eq!(ask(path, &Request::Ping), Reply::Done);
            let message = "machine a is written twice".to_owned();
            assert_eq!(ask(path, &RELOAD), Reply::Failed { message });
            let environments = Some(vec!["head".to_owned(), "next".to_owned()]);
            let message = "head next".to_owned();
            assert_eq!(ask(path, &Request::Reload { environments }), Reply::Failed { message });
            let living = Request::Living { environment: "base".to_owned() };
            let on_base = Living { machines: vec!["on base".to_owned()], visitors: Vec::new() };
            assert_eq!(ask(path, &living), Reply::Living(on_base));
            let changed = vec!["ranges".to_owned()];
            let dry = Request::Reconfigure { dry: true };
            assert_eq!(ask(path, &dry), Reply::Reconfigured { changed });
            let message = "line 3: no".to_owned();
            let reconfigure = Request::Reconfigure { dry: false };
            assert_eq!(ask(path, &reconfigure), Reply::Failed { message });
            let explain = Request::Explain { machine: "web1".to_owned() };
            let Reply::Explanation(told) = ask(path, &explain) else { panic!() };
            assert_eq!(told.machine.name, "web1");
            let Reply::Status(status) = ask(path, &Request::Status) else { panic!() };
            assert_eq!(status.version, "1");
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_held_is_served_again_on_the_next_request() {
        with_held(|path, holds| {
            let mut client = Client::connect(path).unwrap().unwrap();
            let hold = Request::Hold { environment: "head".to_owned(), force: false };
            assert_eq!(client.ask(&hold).unwrap(), held());
            assert_eq!(*holds.lock().unwrap(), ["head"]);
            assert_eq!(client.ask(&RELOAD).unwrap(), Reply::Done);
            assert_eq!(*holds.lock().unwrap(), [""; 0]);
            let mut client = Client::connect(path).unwrap().unwrap();
            assert_eq!(client.ask(&hold).unwrap(), held());
            let environments = Some(vec!["next".to_owned()]);
            let message = "next".to_owned();
            let told = client.ask(&Request::Reload { environments }).unwrap();
            assert_eq!(told, Reply::Failed { message }, "it is told what has changed");
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_held_is_served_again_when_the_command_dies() {
        with_held(|path, holds| {
            let mut client = Client::connect(path).unwrap().unwrap();
            let hold = Request::Hold { environment: "base".to_owned(), force: true };
            assert_eq!(client.ask(&hold).unwrap(), held());
            drop(client);
            while !holds.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
        })
        .await;
    }

    #[tokio::test]
    async fn the_store_is_left_alone_until_the_command_is_done_or_dead() {
        with_held(|path, holds| {
            let mut client = Client::connect(path).unwrap().unwrap();
            let living = Reply::Living(on_desk());
            assert_eq!(client.ask(&Request::Detach).unwrap(), living);
            assert_eq!(*holds.lock().unwrap(), ["all"]);
            assert_eq!(client.ask(&RELOAD).unwrap(), Reply::Done);
            assert_eq!(*holds.lock().unwrap(), [""; 0]);
            let mut client = Client::connect(path).unwrap().unwrap();
            assert_eq!(client.ask(&Request::Detach).unwrap(), living);
            drop(client);
            while !holds.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
        })
        .await;
    }

    #[tokio::test]
    async fn what_machines_live_on_is_not_held() {
        with_held(|path, holds| {
            let hold = Request::Hold { environment: "base".to_owned(), force: false };
            assert_eq!(ask(path, &hold), Reply::Living(on_desk()));
            let hold = Request::Hold { environment: "ports".to_owned(), force: false };
            let visited = Living { machines: Vec::new(), visitors: vec![visitor()] };
            assert_eq!(ask(path, &hold), Reply::Living(visited));
            assert_eq!(*holds.lock().unwrap(), [""; 0]);
        })
        .await;
    }

    #[tokio::test]
    async fn a_watch_goes_on() {
        with_server(|path| {
            let mut client = Client::connect(path).unwrap().unwrap();
            assert!(matches!(client.ask(&Request::Watch).unwrap(), Reply::Status(_)));
            assert!(matches!(client.go_on().unwrap(), Some(Reply::Status(_))));
        })
        .await;
    }

    #[tokio::test]
    async fn garbage_is_refused_and_bounded() {
        with_server(|path| {
            for garbage in
                [&b"\n"[..], b"{}\n", b"{\"ask\":\"no\"}\n", b"\xff\xff\n", &[b'['; 5000]]
            {
                let mut client = Client::connect(path).unwrap().unwrap();
                // The server may answer and close before it has taken everything.
                let _ = client.stream.get_mut().write_all(garbage);
                match client.go_on() {
                    Ok(Some(Reply::Failed { .. })) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                    other => panic!("{garbage:?}: {other:?}"),
                }
            }
            assert_eq!(ask(path, &Request::Ping), Reply::Done);
        })
        .await;
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone() {
        with_server(|path| {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        })
        .await;
    }

    #[tokio::test]
    async fn a_command_is_told_of_a_disk_that_hangs() {
        let (free, hangs) = std::sync::mpsc::channel::<()>();
        let call = move || hangs.recv().map_err(|error| error.to_string());
        let told = within(Duration::from_millis(20), call).await.unwrap();
        assert!(told.unwrap_err().contains("has not answered"));
        free.send(()).unwrap();
        assert_eq!(within(IO_TIMEOUT, || Ok(1)).await.unwrap(), Ok(1));
    }

    #[tokio::test]
    async fn what_is_taken_too_late_is_given_back() {
        let (free, hangs) = std::sync::mpsc::channel::<()>();
        let (given, back) = tokio::sync::oneshot::channel();
        let take = move || hangs.recv().map(|()| "head").map_err(|error| error.to_string());
        let undo = move |taken| given.send(taken);
        let told = taken(Duration::from_millis(20), take, undo).await.unwrap().unwrap_err();
        assert!(
            told.contains("has not answered") && told.contains("nothing was changed"),
            "{told}"
        );
        free.send(()).unwrap();
        assert_eq!(back.await, Ok("head"));
        let undo = |_| panic!("the command has it");
        assert_eq!(taken(IO_TIMEOUT, || Ok(1), undo).await.unwrap(), Ok(1));
    }

    #[test]
    fn no_server_is_no_error() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        assert!(Client::connect(&path).unwrap().is_none());
        drop(blocking::UnixListener::bind(&path).unwrap());
        assert!(Client::connect(&path).unwrap().is_none(), "left behind by a server");
    }
}
