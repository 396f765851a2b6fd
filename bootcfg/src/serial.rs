//! The serial port that a machine has for its console, in the words of every program that is told.

use std::fmt;
use std::str::FromStr;

use crate::loader::Variable;

/// A serial port of a PC, as `ttyS0/115200`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Serial {
    /// Its number, from 0 to 3.
    unit: u8,
    /// Bits in a second.
    speed: u32,
}

impl Serial {
    /// The variables with which FreeBSD's loader, its kernel and its login use it.
    ///
    /// `console=comconsole` alone counts: without it a loader of UEFI writes to the firmware's screen,
    /// and its kernel too. `boot_serial` has a kernel that comes by another way choose the same.
    #[must_use]
    pub fn variables(self) -> Vec<Variable> {
        let variable = |name: &str, value: &dyn fmt::Display| (name.to_owned(), value.to_string());
        let mut variables = vec![
            variable("console", &"comconsole"),
            variable("boot_serial", &"YES"),
            variable("comconsole_speed", &self.speed),
        ];
        // The first is the default, and every variable takes room in a DHCP message.
        if self.unit > 0 {
            variables.push(variable("comconsole_port", &format_args!("{:#x}", self.port())));
        }
        variables.into_iter().map(|(name, value)| Variable { name, value }).collect()
    }

    /// The word for a Linux kernel's command line.
    #[must_use]
    pub fn argument(self) -> String {
        format!("console=ttyS{},{}", self.unit, self.speed)
    }

    /// Whether a word of a Linux kernel's command line puts a console on this port, with whatever speed.
    #[must_use]
    pub fn is_in(self, word: &str) -> bool {
        let rest = word.strip_prefix(&format!("console=ttyS{}", self.unit));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
    }

    /// Its number, from 0 on.
    pub(crate) const fn unit(self) -> u8 {
        self.unit
    }

    /// Bits in a second.
    pub(crate) const fn speed(self) -> u32 {
        self.speed
    }

    /// Where a PC has it.
    const fn port(self) -> u16 {
        match self.unit {
            0 => 0x3f8,
            1 => 0x2f8,
            2 => 0x3e8,
            _ => 0x2e8,
        }
    }
}

impl Default for Serial {
    fn default() -> Self {
        Self { unit: 0, speed: SPEED }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ttyS{}/{}", self.unit, self.speed)
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// `DEVICE`, or `DEVICE/SPEED`: the device by its name on Linux, on FreeBSD, or on the case.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let refused = || SerialError(text.to_owned());
        let (device, speed) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let number = |prefix: &str| device.strip_prefix(prefix)?.parse::<u8>().ok();
        let case = || device.to_ascii_lowercase().strip_prefix("com")?.parse::<u8>().ok();
        let unit = number("ttyS").or_else(|| number("ttyu"));
        let unit = unit.or_else(|| case()?.checked_sub(1)).filter(|unit| *unit < 4);
        let speed = speed
            .map_or(Some(SPEED), |speed| speed.parse().ok().filter(|speed| SPEEDS.contains(speed)));
        let (unit, speed) = unit.zip(speed).ok_or_else(refused)?;
        Ok(Self { unit, speed })
    }
}

/// Why text is not a serial port.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is not a serial port of a PC: write ttyS0 to ttyS3, and /SPEED if the speed is not 115200, as in \
     ttyS1/9600"
)]
pub struct SerialError(String);

/// What every loader and firmware of the last years starts with.
const SPEED: u32 = 115_200;

/// What a PC's port can be set to, and what a console is worth.
const SPEEDS: [u32; 8] = [1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_port_has_the_name_of_any_system() {
        for (text, same) in [
            ("ttyS0", "ttyS0/115200"),
            ("ttyS1/9600", "ttyS1/9600"),
            ("ttyu1", "ttyS1/115200"),
            ("com1", "ttyS0/115200"),
            ("COM4/19200", "ttyS3/19200"),
        ] {
            assert_eq!(text.parse::<Serial>().unwrap().to_string(), same);
        }
        for bad in ["", "ttyS4", "ttyS", "com0", "ttyS0/", "ttyS0/1", "ttyS0,9600", "0", "hvc0"] {
            let told = bad.parse::<Serial>().unwrap_err().to_string();
            assert!(told.contains("ttyS0 to ttyS3"), "{told}");
        }
    }

    #[test]
    fn every_system_is_told_in_its_own_words() {
        let told = |text: &str| {
            let serial: Serial = text.parse().unwrap();
            let variables = serial.variables().into_iter();
            let variables = variables.map(|Variable { name, value }| format!("{name}={value}"));
            (variables.collect::<Vec<_>>(), serial.argument())
        };
        let (variables, argument) = told("com1");
        let expected = ["console=comconsole", "boot_serial=YES", "comconsole_speed=115200"];
        assert_eq!(
            (&variables[..], &*argument),
            (&expected.map(str::to_owned)[..], "console=ttyS0,115200")
        );
        let (variables, argument) = told("com2/9600");
        assert_eq!(variables[2..], ["comconsole_speed=9600", "comconsole_port=0x2f8"]);
        assert_eq!(argument, "console=ttyS1,9600");
        let second: Serial = "com2".parse().unwrap();
        for (word, is_in) in [
            ("console=ttyS1", true),
            ("console=ttyS1,9600", true),
            ("console=ttyS10", false),
            ("console=ttyS0", false),
            ("ttyS1", false),
        ] {
            assert_eq!(second.is_in(word), is_in, "{word}");
        }
    }
}
