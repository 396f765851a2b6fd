//! The serial port of a machine's console, as it stands in records.

use std::fmt;
use std::str::FromStr;

use bootcfg::{Serial, SerialError};
use serde::{Deserialize, Serialize};

/// A serial port, as `ttyS0/115200`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SerialPort(pub Serial);

impl FromStr for SerialPort {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for SerialPort {
    type Error = SerialError;

    fn try_from(text: String) -> Result<Self, SerialError> {
        text.parse()
    }
}

impl From<SerialPort> for String {
    fn from(port: SerialPort) -> Self {
        port.to_string()
    }
}
