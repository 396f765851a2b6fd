//! Requests by HTTP to receivers of webhooks and to Consul.
//!
//! `http://` goes by ureq, without TLS; `https://` by curl(1), which has the host's cryptography, certificates and
//! proxies ([0016](../../../docs/decisions/0016-hooks.md)). Neither follows a redirection, and neither waits longer
//! than it may.

use std::fmt;
use std::time::Duration;

use child::{Call, Limit};
use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::http::{Request, Uri};

/// Makes requests, and keeps connections for the next ones.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    limit: Duration,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
}

impl Method {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// What was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its text; empty, if that is longer than 8 MiB.
    pub text: String,
}

impl Answer {
    /// Whether it was done.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.text.lines().next().unwrap_or_default();
        let first: String = first.chars().filter(|c| !c.is_control()).take(200).collect();
        if first.is_empty() {
            write!(f, "status {}", self.status)
        } else {
            write!(f, "status {}: {first}", self.status)
        }
    }
}

impl Client {
    /// A client each of whose requests takes so long at most.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(limit))
            .http_status_as_error(false)
            .max_redirects(0)
            // What stands in a service's environment is for other programs.
            .proxy(None)
            .user_agent("netbe")
            .build();
        Self { agent: config.into(), limit }
    }

    /// Makes a request; gives what was answered, whatever its status is.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ClientError> {
        if url.is_secure() {
            return self.send_by_curl(method, url, headers, body);
        }
        let mut request = Request::builder().method(method.as_str()).uri(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| ClientError(error.to_string()))?;
        let answered = self.agent.run(request);
        let mut answered = answered.map_err(|error| ClientError(error.to_string()))?;
        let status = answered.status().as_u16();
        let read = answered.body_mut().with_config().limit(MOST).lossy_utf8(true).read_to_string();
        // The status says whether it was done; a longer text is of no use.
        Ok(Answer { status, text: read.unwrap_or_default() })
    }

    /// The same, by curl(1). All of it goes to its standard input: what stands in arguments every user reads.
    fn send_by_curl(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ClientError> {
        let text = String::from_utf8_lossy(body);
        let mut config = format!(
            "url = {}\nrequest = {}\nproto = \"=https\"\nsilent\nshow-error\nmax-time = {}\n\
             max-filesize = {MOST}\nwrite-out = \"\\n%{{http_code}}\"\nheader = \"User-Agent: netbe\"\n",
            quoted(url.as_str()),
            method.as_str(),
            self.limit.as_secs().max(1)
        );
        if method != Method::Get {
            config += &format!("data-binary = {}\n", quoted(&text));
        }
        for (name, value) in headers {
            config += &format!("header = {}\n", quoted(&format!("{name}: {value}")));
        }
        let limit = Limit::Within(self.limit + Duration::from_secs(5));
        let call = Call::new("curl", limit).option("--config", "-");
        let answered = call.feed(config.into_bytes());
        let answered = answered.map_err(|error| ClientError(format!("curl: {}", error.said)))?;
        let answered = String::from_utf8_lossy(&answered);
        let (text, status) = answered.rsplit_once('\n').unwrap_or_default();
        let status = status.parse().ok().filter(|status| *status != 0);
        let status = status.ok_or_else(|| ClientError("curl: no status".to_owned()))?;
        Ok(Answer { status, text: text.to_owned() })
    }
}

/// A value in curl's configuration (curl(1), `--config`).
fn quoted(text: &str) -> String {
    let mut value = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => value.extend(['\\', character]),
            '\n' => value += "\\n",
            '\r' => value += "\\r",
            '\t' => value += "\\t",
            other => value.push(other),
        }
    }
    value.push('"');
    value
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(String);

/// An address of the Web with a scheme and a host, and without a password. What stands behind the host may be a
/// secret all the same, as many receivers of webhooks have it: shown are the scheme, the host and the port.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Url(String);

impl Url {
    /// It, as it was written: for who is to be reached, and for nobody who reads.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What of a text may be shown: what stands behind the host goes, as where a receiver's answer repeats it.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        let (_, secret) = self.0.split_at(shown(&self.0).len());
        let (path, query) = secret.split_once('?').unwrap_or((secret, ""));
        let parts = [secret, query, path.trim_end_matches('/')].into_iter();
        let parts = parts.filter(|part| !part.trim_matches('/').is_empty());
        parts.fold(text.to_owned(), |text, part| text.replace(part, "..."))
    }

    /// What it names below itself.
    ///
    /// # Errors
    ///
    /// That is no part of an address.
    pub fn below(&self, path: &str) -> Result<Self, UrlError> {
        Self::try_from(format!("{}{path}", self.0.trim_end_matches('/')))
    }

    fn is_secure(&self) -> bool {
        self.0.starts_with("https://")
    }
}

/// The scheme, the host and the port.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(shown(&self.0))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", shown(&self.0))
    }
}

/// What of an address may be shown; nothing, where it cannot be told what is its host.
fn shown(text: &str) -> &str {
    let scheme = text.find("://");
    let host = scheme.map_or(0, |at| at + 3);
    let rest = text.get(host..).unwrap_or_default();
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    // Without a scheme all of it may be a password.
    let before = if scheme.is_some() { rest.get(..end).unwrap_or_default() } else { text };
    if before.contains('@') {
        return "";
    }
    text.get(..host + end).unwrap_or_default()
}

impl TryFrom<String> for Url {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        let parsed = text.parse::<Uri>().ok();
        let good = parsed.is_some_and(|uri| {
            let host = uri.authority().is_some_and(|authority| {
                !authority.host().is_empty() && !authority.as_str().contains('@')
            });
            host && matches!(uri.scheme_str(), Some("http" | "https"))
        });
        let plain = text.chars().all(|c| c.is_ascii_graphic());
        if good && plain { Ok(Self(text)) } else { Err(UrlError(shown(&text).to_owned())) }
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.0
    }
}

/// Why text is no such address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{} cannot be used: write http:// or https:// and a host, as in http://127.0.0.1:8500 or https://example.org/hook, \
     without a user name",
    begun(.0)
)]
pub struct UrlError(String);

/// An address in a sentence, by what of it may be shown.
fn begun(shown: &str) -> String {
    match shown {
        "" => "the address".to_owned(),
        shown => format!("the address that begins with {shown:?}"),
    }
}

/// Bytes of an answer that are read: a thousand services of Consul are half a MiB.
const MOST: u64 = 8 << 20;

#[cfg(test)]
pub(crate) mod test {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{self, Receiver};
    use std::thread;

    use super::*;

    /// A server on the loopback that answers each request with the next of these statuses, the last one for
    /// ever, and gives what it was sent.
    pub(crate) fn server(statuses: &'static [u16]) -> (Url, Receiver<String>) {
        let (sender, receiver) = mpsc::channel();
        let mut statuses = statuses.iter().copied();
        let mut last = 200;
        let url = serving(move |request| {
            last = statuses.next().unwrap_or(last);
            // Who does not listen any more has seen enough.
            let _ = sender.send(request.to_owned());
            (last, "said\n".to_owned())
        });
        (url, receiver)
    }

    /// A server on the loopback that answers each request with a status and a text.
    pub(crate) fn serving(mut answer: impl FnMut(&str) -> (u16, String) + Send + 'static) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::try_from(format!("http://{}", listener.local_addr().unwrap())).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (status, text) = answer(&request(&mut stream));
                let length = text.len();
                let head = format!("Connection: close\r\nContent-Length: {length}\r\n\r\n");
                let _ = write!(stream, "HTTP/1.1 {status} Word\r\n{head}{text}");
            }
        });
        url
    }

    fn request(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let got = stream.read(&mut piece).unwrap();
            bytes.extend_from_slice(&piece[..got]);
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.trim().parse().unwrap());
            if got == 0 || body.len() >= length {
                return String::from_utf8(bytes).unwrap();
            }
        }
    }

    #[test]
    fn a_request_has_its_headers_and_its_body_and_an_answer_its_status() {
        let (url, requests) = server(&[403]);
        let client = Client::new(Duration::from_secs(20));
        let url = url.below("/v1/agent").unwrap();
        let answer = client.send(Method::Put, &url, &[("X-Word", "one")], b"{}").unwrap();
        assert_eq!((answer.is_success(), answer.to_string()), (false, "status 403: said".into()));
        let request = requests.recv().unwrap();
        assert!(request.starts_with("PUT /v1/agent HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("x-word: one\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{}"), "{request}");
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for_without_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::try_from(format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let client = Client::new(Duration::from_millis(300));
        let begin = std::time::Instant::now();
        client.send(Method::Get, &url, &[], b"").unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn an_address_has_a_scheme_and_a_host_and_no_password() {
        for text in [
            "",
            "127.0.0.1:8500",
            "ftp://host/",
            "http://",
            "http://user:word@host/",
            "http://a b/",
        ] {
            assert!(Url::try_from(text.to_owned()).is_err(), "{text}");
        }
        let url = Url::try_from("http://127.0.0.1:8500/".to_owned()).unwrap();
        assert_eq!(url.below("/v1/x").unwrap().as_str(), "http://127.0.0.1:8500/v1/x");
    }

    #[test]
    fn what_of_an_address_may_be_a_secret_is_not_shown() {
        for (text, expected) in [
            ("https://hooks.example.org/services/T0/s3cret", "https://hooks.example.org"),
            ("https://example.org:8443?token=s3cret", "https://example.org:8443"),
            ("http://[::1]:9/s3cret@s3cret", "http://[::1]:9"),
        ] {
            let url = Url::try_from(text.to_owned()).unwrap();
            assert_eq!(
                (url.to_string(), format!("{url:?}")),
                (expected.into(), format!("{expected:?}"))
            );
            let echo = url.hide_in(&format!("no such page: {}", &text[expected.len()..]));
            assert!(echo.starts_with("no such page") && !echo.contains("s3cret"), "{echo}");
        }
        for text in
            ["http://user:s3cret@host/", "https://exa mple/s3cret", "https:/s3cret", "s3cret@host"]
        {
            let error = Url::try_from(text.to_owned()).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
        let error = |text: &str| Url::try_from(text.to_owned()).unwrap_err().to_string();
        let begins =
            "the address that begins with \"ftp://host\" cannot be used: write http:// or ";
        assert!(error("ftp://host/s3cret").starts_with(begins));
        assert!(
            error("http://user:s3cret@host/").starts_with("the address cannot be used: write http")
        );
        let root = Url::try_from("http://127.0.0.1/".to_owned()).unwrap();
        assert_eq!(root.hide_in("a/b"), "a/b");
    }

    #[test]
    fn what_curl_is_told_stays_one_value() {
        assert_eq!(quoted("a\"b\\c\nurl = x"), "\"a\\\"b\\\\c\\nurl = x\"");
    }
}
