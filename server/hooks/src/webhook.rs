//! Webhooks: events that are sent to an address by HTTP, signed with a secret.
//!
//! The body is the event's JSON. `X-Netbe-Signature` is `sha256=` and the HMAC of the body in hexadecimal digits
//! (RFC 2104, with SHA-256), as other senders of webhooks have it. Each receiver has a queue and a thread of its own,
//! so that one that is away costs the others nothing.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::client::{Client, Method, Url, UrlError};
use crate::file;
use crate::settings::{Patience, SettingsError, patience};
use crate::{Event, Occasion};

/// `[[hooks.webhooks]]`, as it is written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// What it is called in messages.
    pub name: Option<String>,
    /// Where events are sent to.
    pub url: String,
    /// Which; all, if none is named.
    #[serde(default)]
    pub events: Vec<String>,
    /// The file with the secret.
    pub secret_file: Option<PathBuf>,
    /// Seconds that an attempt may take.
    pub timeout: Option<u64>,
    /// How often it is tried again.
    pub retries: Option<u32>,
}

/// One receiver of events. It is shown by its name and its host: the rest of its address may be a secret.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Webhook {
    /// What it is called in messages.
    #[serde(default)]
    pub name: Option<String>,
    /// Where events are sent to.
    pub url: Url,
    /// Which; all, if none is named.
    pub events: Vec<Occasion>,
    /// The file with the secret; without one events are sent unsigned.
    pub secret_file: Option<PathBuf>,
    /// How long an attempt may take, and how often it is tried again.
    pub patience: Patience,
}

impl TryFrom<Raw> for Webhook {
    type Error = SettingsError;

    fn try_from(raw: Raw) -> Result<Self, SettingsError> {
        let of_url = |error: UrlError| SettingsError::Webhook(error.to_string());
        let url = Url::try_from(raw.url).map_err(of_url)?;
        if let Some(name) = raw.name.as_ref().filter(|name| !is_name(name)) {
            return Err(SettingsError::WebhookName(name.clone()));
        }
        let events = raw.events.iter().map(|event| event.parse()).collect::<Result<_, _>>()?;
        if let Some(path) = raw.secret_file.as_ref().filter(|path| !path.is_absolute()) {
            return Err(SettingsError::Relative(path.clone()));
        }
        let default = Patience { timeout: Duration::from_secs(10), retries: 5 };
        let patience = patience(raw.timeout, raw.retries, default)?;
        Ok(Self { name: raw.name, url, events, secret_file: raw.secret_file, patience })
    }
}

/// Whether a name can stand in a line of the log.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 63 && !name.chars().any(char::is_control)
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.url),
            None => self.url.fmt(f),
        }
    }
}

impl Webhook {
    /// Whether it is sent such an event.
    fn wants(&self, event: Occasion) -> bool {
        self.events.is_empty() || self.events.contains(&event)
    }

    /// Looks whether the secret can be used.
    ///
    /// # Errors
    ///
    /// It cannot.
    pub fn check(&self) -> Result<(), file::Untrusted> {
        self.secret().map(drop)
    }

    /// The secret, as it is now: it may be changed while the server runs.
    fn secret(&self) -> Result<Option<String>, file::Untrusted> {
        self.secret_file.as_deref().map(file::secret).transpose()
    }

    /// Sends an event once.
    fn send(&self, client: &Client, event: &Event) -> Result<(), String> {
        let body = event.json();
        let body = body.trim_ascii_end();
        let secret = self.secret().map_err(|error| error.to_string())?;
        let signature = secret.map(|secret| signature(secret.as_bytes(), body));
        let mut headers = vec![
            ("Content-Type", "application/json"),
            ("X-Netbe-Event", event.event.as_str()),
            ("X-Netbe-Delivery", event.id.as_str()),
        ];
        headers.extend(signature.as_deref().map(|value| ("X-Netbe-Signature", value)));
        let answer = client.send(Method::Post, &self.url, &headers, body);
        let answer = answer.map_err(|error| self.url.hide_in(&error.to_string()))?;
        if answer.is_success() { Ok(()) } else { Err(self.url.hide_in(&answer.to_string())) }
    }
}

/// What shows that a body was sent by who has the secret.
fn signature(secret: &[u8], body: &[u8]) -> String {
    let mut text = String::from("sha256=");
    // HMAC takes a key of any length (RFC 2104 §2).
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) {
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            text += &format!("{byte:02x}");
        }
    }
    text
}

/// A receiver and what is still to be sent to it.
#[derive(Debug)]
pub(crate) struct Outbox {
    webhook: Webhook,
    mail: Mutex<Mail>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Mail {
    waiting: VecDeque<Event>,
    /// What is being sent: neither taken nor given up yet.
    sending: Option<Event>,
}

impl Outbox {
    pub(crate) fn new(webhook: Webhook) -> Self {
        Self { webhook, mail: Mutex::default(), more: Condvar::new() }
    }

    /// What is still to be sent.
    pub(crate) fn left(&self) -> Vec<Event> {
        let mail = self.mail();
        mail.sending.iter().chain(&mail.waiting).cloned().collect()
    }

    /// Whether nothing is still to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        let mail = self.mail();
        mail.sending.is_none() && mail.waiting.is_empty()
    }

    /// Whose it is, for people.
    pub(crate) fn name(&self) -> String {
        self.webhook.to_string()
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event to be sent. Without room the oldest one goes.
    pub(crate) fn push(&self, event: &Event) {
        if !self.webhook.wants(event.event) {
            return;
        }
        let waiting = &mut self.mail().waiting;
        if waiting.len() >= MOST
            && let Some(lost) = waiting.pop_front()
        {
            let (webhook, what) = (&self.webhook, lost.event);
            tracing::warn!(
                "{webhook}: {what} of {} is not sent: {MOST} events already wait",
                lost.machine
            );
        }
        waiting.push_back(event.clone());
        self.more.notify_one();
    }

    /// Sends one event after the other, until it is over.
    pub(crate) fn deliver(&self, is_over: &dyn Fn() -> bool) {
        let client = Client::new(self.webhook.patience.timeout);
        while let Some(event) = self.next(is_over) {
            let mut pause = FIRST_PAUSE;
            for attempt in 0..=self.webhook.patience.retries {
                if attempt > 0 && !self.rest(pause, is_over) {
                    return;
                }
                pause = LONGEST_PAUSE.min(pause * 2);
                let Err(reason) = self.webhook.send(&client, &event) else { break };
                let (webhook, Event { event, machine, .. }) = (&self.webhook, &event);
                if attempt == webhook.patience.retries {
                    tracing::warn!("{webhook}: {event} of {machine} was not accepted: {reason}");
                } else {
                    tracing::debug!("{webhook}: {event} of {machine} is sent again: {reason}");
                }
            }
        }
    }

    /// The next event; the one before is taken, or given up.
    fn next(&self, is_over: &dyn Fn() -> bool) -> Option<Event> {
        let mut mail = self.mail();
        mail.sending = None;
        loop {
            if is_over() {
                return None;
            }
            if let Some(event) = mail.waiting.pop_front() {
                mail.sending = Some(event.clone());
                return Some(event);
            }
            let woken = self.more.wait_timeout(mail, BEAT);
            mail = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits before the next attempt; says whether there is to be one.
    fn rest(&self, pause: Duration, is_over: &dyn Fn() -> bool) -> bool {
        let mut left = pause;
        while !left.is_zero() && !is_over() {
            let piece = left.min(BEAT);
            std::thread::sleep(piece);
            left -= piece;
        }
        !is_over()
    }
}

/// Events that wait for one receiver, at most.
const MOST: usize = 256;

/// Between two attempts; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often it is looked whether it is over.
const BEAT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod test {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::client::test::server;

    fn webhook(url: Url) -> Webhook {
        let raw = Raw { url: url.into(), events: vec!["up".to_owned()], ..Raw::default() };
        Webhook::try_from(raw).unwrap()
    }

    #[test]
    fn a_signature_is_that_of_rfc_4231() {
        // RFC 4231 §4.3, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn an_event_is_sent_signed_until_it_is_taken() {
        let (url, requests) = server(&[500, 204]);
        let place = tempfile::tempdir().unwrap();
        let secret = place.path().join("secret");
        std::fs::write(&secret, "word\n").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let outbox = Outbox::new(Webhook { secret_file: Some(secret), ..webhook(url) });
        let event = Event::new(Occasion::Up, "web1");
        outbox.push(&Event::new(Occasion::Lost, "web1"));
        outbox.push(&event);
        let over = AtomicBool::new(false);
        let sent: Vec<String> = std::thread::scope(|scope| {
            scope.spawn(|| outbox.deliver(&|| over.load(Ordering::Relaxed)));
            let sent = (0..2).map(|_| requests.recv().unwrap()).collect();
            over.store(true, Ordering::Relaxed);
            sent
        });
        let json = String::from_utf8(event.json()).unwrap();
        for request in sent {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert_eq!(body, json.trim());
            let head = head.to_lowercase();
            let expected = signature(b"word", body.as_bytes());
            assert!(head.contains(&format!("x-netbe-signature: {expected}")), "{head}");
            assert!(head.contains("x-netbe-event: up"), "{head}");
        }
    }

    #[test]
    fn what_is_told_of_a_receiver_has_nothing_behind_its_host() {
        let (url, _requests) = server(&[404]);
        let url = url.below("/services/s3cret?token=s3cret").unwrap();
        let named = Webhook { name: Some("pager".to_owned()), ..webhook(url.clone()) };
        assert_eq!(named.to_string(), format!("pager ({url})"));
        let refused =
            named.send(&Client::new(Duration::from_secs(20)), &Event::new(Occasion::Up, "web1"));
        for told in [webhook(url).to_string(), format!("{named:?}"), refused.unwrap_err()] {
            assert!(!told.contains("s3cret"), "{told}");
        }
        let raw = Raw { url: "s3cret/T0@".to_owned(), ..Raw::default() };
        let error = Webhook::try_from(raw).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        let raw = Raw { name: Some("a\nb".into()), url: "http://host/".into(), ..Raw::default() };
        assert!(Webhook::try_from(raw).unwrap_err().to_string().contains("63"));
    }

    #[test]
    fn a_secret_that_others_read_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let secret = place.path().join("secret");
        std::fs::write(&secret, "word").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
        let url = Url::try_from("http://127.0.0.1:9/".to_owned()).unwrap();
        let webhook = Webhook { secret_file: Some(secret), ..webhook(url) };
        assert!(webhook.check().unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn what_a_receiver_that_is_away_is_to_be_sent_is_bounded() {
        let url = Url::try_from("http://127.0.0.1:9/".to_owned()).unwrap();
        let outbox = Outbox::new(webhook(url));
        for number in 0..MOST + 5 {
            outbox.push(&Event::new(Occasion::Up, number.to_string()));
        }
        let left = outbox.left();
        assert_eq!((left.len(), left[0].machine.as_str()), (MOST, "5"));
    }
}
