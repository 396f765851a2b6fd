//! The head of an answer (RFC 9112 §4), and what people read when there is no file for them.

use std::fmt::Write;
use std::ops::Range;
use std::time::SystemTime;

use super::request::Rejection;
use crate::boot::FileError;

/// How a request ends (RFC 9110 §15).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    /// The file follows.
    Ok,
    /// A part of the file follows.
    PartialContent,
    /// The request makes no sense.
    BadRequest,
    /// The machine boots nothing from us.
    Forbidden,
    /// No such file.
    NotFound,
    /// Neither GET nor HEAD.
    MethodNotAllowed,
    /// The request did not come in time.
    RequestTimeout,
    /// The file ends before the range begins.
    RangeNotSatisfiable,
    /// The head is too long.
    RequestHeaderFieldsTooLarge,
    /// The host cannot read the file.
    InternalServerError,
    /// Too many connections.
    ServiceUnavailable,
    /// Another version of HTTP.
    VersionNotSupported,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::PartialContent => "206 Partial Content",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Self::RequestHeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Self::InternalServerError => "500 Internal Server Error",
            Self::ServiceUnavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Body | Rejection::Host | Rejection::Malformed | Rejection::Target => {
                Self::BadRequest
            }
            Rejection::Late => Self::RequestTimeout,
            Rejection::Method => Self::MethodNotAllowed,
            Rejection::TooLong => Self::RequestHeaderFieldsTooLarge,
            Rejection::Version => Self::VersionNotSupported,
        }
    }
}

/// The answer to a request for which there is no file: its status and a sentence.
pub(super) fn refusal(error: &FileError, path: &[u8]) -> (Status, String) {
    let path = String::from_utf8_lossy(path);
    let path: String = path.chars().filter(|shown| !shown.is_control()).collect();
    match error {
        FileError::NotFound => (Status::NotFound, format!("no file {path} for this machine")),
        FileError::Refused(reason) => (Status::Forbidden, reason.clone()),
        FileError::Waiting(_) => {
            (Status::ServiceUnavailable, format!("{path} is still being made"))
        }
        FileError::Io => (Status::InternalServerError, format!("the server cannot read {path}")),
    }
}

/// The head of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) status: Status,
    pub(super) mime: &'static str,
    /// Bytes of the body that follows a GET.
    pub(super) length: u64,
    /// Where the body stands in the file, whose length is the second number.
    pub(super) range: Option<(Option<Range<u64>>, u64)>,
    pub(super) keep_alive: bool,
}

impl Head {
    /// A head for a sentence.
    pub(super) fn sentence(status: Status, text: &str, keep_alive: bool) -> Self {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        // Not text/html: FreeBSD's loader takes that for a directory.
        Self { status, mime: "text/plain; charset=utf-8", length, range: None, keep_alive }
    }

    /// The head as bytes.
    pub(super) fn encode(&self, now: SystemTime) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            self.status.line(),
            httpdate::fmt_http_date(now),
            self.mime,
            self.length,
        );
        // Writing to a string cannot fail.
        let _ = match &self.range {
            Some((Some(part), len)) => {
                let last = part.end.saturating_sub(1);
                write!(head, "Content-Range: bytes {}-{last}/{len}\r\n", part.start)
            }
            Some((None, len)) => write!(head, "Content-Range: bytes */{len}\r\n"),
            None => Ok(()),
        };
        match self.status {
            Status::Ok | Status::PartialContent => head.push_str("Accept-Ranges: bytes\r\n"),
            Status::MethodNotAllowed => head.push_str("Allow: GET, HEAD\r\n"),
            Status::ServiceUnavailable => head.push_str("Retry-After: 1\r\n"),
            Status::BadRequest
            | Status::Forbidden
            | Status::NotFound
            | Status::RequestTimeout
            | Status::RangeNotSatisfiable
            | Status::RequestHeaderFieldsTooLarge
            | Status::InternalServerError
            | Status::VersionNotSupported => {}
        }
        // Said in both cases: HTTP/1.0 clients that asked to keep the connection need to hear it.
        head.push_str(if self.keep_alive {
            "Connection: keep-alive\r\n\r\n"
        } else {
            "Connection: close\r\n\r\n"
        });
        head.into_bytes()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_part_says_where_it_stands() {
        let head = Head {
            status: Status::PartialContent,
            mime: "application/efi",
            length: 4,
            range: Some((Some(2..6), 10)),
            keep_alive: true,
        };
        let text = String::from_utf8(head.encode(SystemTime::UNIX_EPOCH)).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 206 Partial Content\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: application/efi\r\nContent-Length: 4\r\nContent-Range: bytes 2-5/10\r\n\
             Accept-Ranges: bytes\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn names_cannot_write_on_the_terminal() {
        let (status, text) = refusal(&FileError::NotFound, b"/a\r\n\x1b[2J\xff");
        assert_eq!(
            (status, text.as_str()),
            (Status::NotFound, "no file /a[2J\u{fffd} for this machine")
        );
    }
}
