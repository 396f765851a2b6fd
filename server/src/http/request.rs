//! The head of a request (RFC 9112 §3), as far as a server of boot files has to understand it.

use super::range::Range;

/// A request, its head complete.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The path of the URL, percent-decoded, without the query.
    pub(super) path: Vec<u8>,
    /// The part of the file that is asked for.
    pub(super) range: Option<Range>,
    /// Whether the connection is to be kept for another request.
    pub(super) keep_alive: bool,
}

/// What is asked of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    /// Its bytes.
    Get,
    /// What GET would say about it; UEFI asks this first.
    Head,
}

/// Why a request is not served. The connection is closed after the answer, because nobody knows
/// where the next request would begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Rejection {
    /// It has a body.
    #[error("requests for boot files have no body")]
    Body,
    /// It came too slowly.
    #[error("the request did not come in time")]
    Late,
    /// It is not HTTP.
    #[error("the request could not be understood")]
    Malformed,
    /// Neither GET nor HEAD.
    #[error("only GET and HEAD are served")]
    Method,
    /// HTTP/1.1 without `Host`, or with two.
    #[error("HTTP/1.1 wants exactly one Host header")]
    Host,
    /// The URL's path is missing, badly encoded or contains a NUL.
    #[error("the URL could not be understood")]
    Target,
    /// The head is longer than [`HEAD_MAX`] or has more than [`HEADERS_MAX`] headers.
    #[error("the request's head is too long")]
    TooLong,
    /// Another version than HTTP/1.0 and HTTP/1.1.
    #[error("only HTTP/1.0 and HTTP/1.1 are served")]
    Version,
}

impl Request {
    /// Parses the head at the beginning of `input`; returns its length too, or `None` when there is
    /// more to come.
    pub(super) fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, Rejection> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        let len = match head.parse(input) {
            Ok(httparse::Status::Complete(len)) if len <= HEAD_MAX => len,
            Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => return Ok(None),
            Ok(httparse::Status::Complete(_) | httparse::Status::Partial)
            | Err(httparse::Error::TooManyHeaders) => return Err(Rejection::TooLong),
            Err(httparse::Error::Version) => return Err(Rejection::Version),
            Err(
                httparse::Error::HeaderName
                | httparse::Error::HeaderValue
                | httparse::Error::NewLine
                | httparse::Error::Status
                | httparse::Error::Token,
            ) => return Err(Rejection::Malformed),
        };
        Ok(Some((Self::understand(&head)?, len)))
    }

    fn understand(head: &httparse::Request<'_, '_>) -> Result<Self, Rejection> {
        let method = match head.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some(_) | None => return Err(Rejection::Method),
        };
        let persistent = head.version == Some(1);
        let values = |name: &'static str| {
            let named =
                move |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
            head.headers.iter().filter(named).map(|header| header.value)
        };
        // HTTP/1.0 clients, old ROMs among them, need not name the host (RFC 9112 §3.2).
        if persistent && values("host").count() != 1 {
            return Err(Rejection::Host);
        }
        let has_length = values("content-length").any(|length| length != b"0");
        if has_length || values("transfer-encoding").next().is_some() {
            return Err(Rejection::Body);
        }
        let path = decode(path(head.path.unwrap_or_default()).ok_or(Rejection::Target)?)?;
        let says = |word| values("connection").any(|value| lists(value, word));
        let keep_alive = if persistent { !says("close") } else { says("keep-alive") };
        // Files have no validators here, so that no `If-Range` can match (RFC 9110 §13.1.5).
        let mut ranges = values("range").filter(|_| values("if-range").next().is_none());
        let range = match (method, ranges.next(), ranges.next()) {
            (Method::Get, Some(range), None) => Range::parse(range),
            (Method::Get | Method::Head, _, _) => None,
        };
        Ok(Self { method, path, range, keep_alive })
    }
}

/// The path in a request's target: in origin form or, as to a proxy, in absolute form.
fn path(target: &str) -> Option<&str> {
    let scheme = "http://";
    let start = target.get(..scheme.len());
    let is_absolute = start.is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let target = if is_absolute {
        let rest = target.get(scheme.len()..)?;
        let authority = rest.find(['/', '?']).unwrap_or(rest.len());
        rest.get(authority..)?
    } else {
        target
    };
    let path = target.split('?').next().unwrap_or_default();
    if is_absolute && path.is_empty() { Some("/") } else { path.starts_with('/').then_some(path) }
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn decode(path: &str) -> Result<Vec<u8>, Rejection> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(0x10);
            let code = digit().zip(digit()).map(|(high, low)| high * 0x10 + low);
            code.and_then(|code| u8::try_from(code).ok()).ok_or(Rejection::Target)?
        } else {
            byte
        };
        if byte == 0 {
            return Err(Rejection::Target);
        }
        decoded.push(byte);
    }
    Ok(decoded)
}

/// Whether a comma-separated list has a word in it.
fn lists(value: &[u8], word: &str) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Bytes in the head of a request.
pub(super) const HEAD_MAX: usize = 0x2000;

/// Headers in a request.
pub(super) const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    fn parse(head: &str) -> Request {
        let (request, len) = Request::parse(head.as_bytes()).unwrap().unwrap();
        assert_eq!(len, head.len());
        request
    }

    fn rejection(head: &str) -> Rejection {
        Request::parse(head.as_bytes()).unwrap_err()
    }

    fn target(target: &str) -> Result<Vec<u8>, Rejection> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        Request::parse(head.as_bytes()).map(|parsed| parsed.unwrap().0.path)
    }

    #[test]
    fn uefis_request_is_read() {
        let request = parse(
            "HEAD /b/0123/loader.efi HTTP/1.1\r\nHost: 10.77.0.1\r\nUser-Agent: UefiHttpBoot/1.0\r\n\
             Accept: */*\r\n\r\n",
        );
        assert_eq!(request.method, Method::Head);
        assert_eq!(request.path, b"/b/0123/loader.efi");
        assert!(request.keep_alive);
    }

    #[test]
    fn an_incomplete_head_waits_for_more() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for end in 0..head.len() {
            assert_eq!(Request::parse(&head[..end]), Ok(None));
        }
    }

    #[test]
    fn what_follows_a_head_is_left() {
        let two = "GET /a HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n";
        assert_eq!(Request::parse(two.as_bytes()).unwrap().unwrap().1, two.len() / 2);
    }

    #[test]
    fn http_1_0_needs_no_host_and_closes() {
        assert!(!parse("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
        assert_eq!(rejection("GET / HTTP/1.1\r\n\r\n"), Rejection::Host);
        assert_eq!(rejection("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"), Rejection::Host);
    }

    #[test]
    fn close_may_stand_in_a_list() {
        let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: TE, Close\r\n\r\n";
        assert!(!parse(head).keep_alive);
    }

    #[test]
    fn other_methods_are_rejected() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
            assert_eq!(
                rejection(&format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")),
                Rejection::Method
            );
        }
    }

    #[test]
    fn a_body_is_rejected() {
        let head = "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(rejection(head), Rejection::Body);
        let head = "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(rejection(head), Rejection::Body);
        parse("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn paths_are_decoded_and_queries_dropped() {
        assert_eq!(target("/a%20b%2Fc?mac=1&x=/").unwrap(), b"/a b/c");
        assert_eq!(target("/%ff+").unwrap(), b"/\xff+");
        assert_eq!(target("http://10.0.0.1:8080/boot.ipxe").unwrap(), b"/boot.ipxe");
        assert_eq!(target("HTTP://h").unwrap(), b"/");
        assert_eq!(target("http://h?q").unwrap(), b"/");
    }

    #[test]
    fn bad_targets_are_rejected() {
        for bad in ["/%", "/%4", "/%zz", "/%00", "*", "boot.ipxe", "?x", "/%+1"] {
            assert_eq!(target(bad), Err(Rejection::Target), "{bad}");
        }
    }

    #[test]
    fn one_range_of_a_get_is_taken() {
        let ask = |method, more: &str| {
            parse(&format!("{method} / HTTP/1.1\r\nHost: h\r\n{more}\r\n")).range
        };
        let range = Some(Range::From { first: 5, last: None });
        assert_eq!(ask("GET", "Range: bytes=5-\r\n"), range);
        assert_eq!(ask("HEAD", "Range: bytes=5-\r\n"), None);
        assert_eq!(ask("GET", "Range: bytes=5-\r\nRange: bytes=6-\r\n"), None);
        assert_eq!(ask("GET", "Range: bytes=5-\r\nIf-Range: \"x\"\r\n"), None);
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(HEAD_MAX));
        assert_eq!(rejection(&long), Rejection::TooLong);
        assert_eq!(rejection(&long[..HEAD_MAX]), Rejection::TooLong);
        let many = format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(rejection(&many), Rejection::TooLong);
        parse(&format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX)));
    }

    #[test]
    fn other_protocols_are_rejected() {
        assert_eq!(rejection("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Rejection::Version);
        assert_eq!(rejection("\x16\x03\x01\x02\0\x01"), Rejection::Malformed);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(input in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(Some((_, len))) = Request::parse(&input) {
                prop_assert!(len <= input.len());
            }
        }

        #[test]
        fn request_like_bytes_parse_or_fail(
            method in "(GET|HEAD|[A-Z]{1,5})",
            target in "[ -~]{0,40}",
            headers in prop::collection::vec("(Host|Range|Connection|Content-Length): [ -~]{0,30}", 0..6),
        ) {
            let head = format!("{method} {target} HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n"));
            if let Ok(Some((request, len))) = Request::parse(head.as_bytes()) {
                prop_assert!(len <= head.len());
                prop_assert!(request.path.starts_with(b"/"));
                prop_assert!(!request.path.contains(&0));
            }
        }
    }
}
