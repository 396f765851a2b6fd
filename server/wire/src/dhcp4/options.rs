//! The options of a received message: raw, in order, read by typed getters.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use super::{Code, MessageType};

/// The options of one message, in the order in which they stand.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options<'a> {
    list: Vec<(Code, &'a [u8])>,
}

impl<'a> Options<'a> {
    /// Reads the options field, then `file` and `sname` where option 52 says that they hold
    /// options too, in this order (RFC 3396 §5). Never fails: what cannot be read is not there.
    pub(super) fn decode(options: &'a [u8], file: &'a [u8], sname: &'a [u8]) -> Self {
        let mut all = Self::default();
        all.read(options);
        let overload = all.overload();
        if overload & OVERLOAD_FILE != 0 {
            all.read(file);
        }
        if overload & OVERLOAD_SNAME != 0 {
            all.read(sname);
        }
        all
    }

    /// Whether `file` held options and not a name.
    pub(super) fn uses_file(&self) -> bool {
        self.overload() & OVERLOAD_FILE != 0
    }

    /// Every option as it stands, repeated ones too.
    pub fn iter(&self) -> impl Iterator<Item = (Code, &'a [u8])> {
        self.list.iter().copied()
    }

    /// Whether the option is there, even if it is empty.
    #[must_use]
    pub fn contains(&self, code: Code) -> bool {
        self.list.iter().any(|(known, _)| *known == code)
    }

    /// An option's value; the parts of one that is there more than once are joined, adjacent or
    /// not (RFC 3396 §7).
    #[must_use]
    pub fn get(&self, code: Code) -> Option<Cow<'a, [u8]>> {
        let mut parts = self.list.iter().filter(|(known, _)| *known == code).map(|(_, part)| *part);
        let mut value = Cow::Borrowed(parts.next()?);
        for part in parts {
            value.to_mut().extend_from_slice(part);
        }
        Some(value)
    }

    /// Option 53, if it is one of the types of RFC 2132.
    #[must_use]
    pub fn message_type(&self) -> Option<MessageType> {
        let [number] = self.array(Code::MESSAGE_TYPE)?;
        MessageType::from_number(number)
    }

    /// An option that is exactly one address.
    #[must_use]
    pub fn address(&self, code: Code) -> Option<Ipv4Addr> {
        self.array::<4>(code).map(Ipv4Addr::from)
    }

    /// An option that is exactly one 16-bit number.
    #[must_use]
    pub fn u16(&self, code: Code) -> Option<u16> {
        self.array(code).map(u16::from_be_bytes)
    }

    /// An option that is exactly one 32-bit number.
    #[must_use]
    pub fn u32(&self, code: Code) -> Option<u32> {
        self.array(code).map(u32::from_be_bytes)
    }

    /// An option that is text, without the NULs that some clients put at its end.
    #[must_use]
    pub fn text(&self, code: Code) -> Option<Cow<'a, [u8]>> {
        let mut value = self.get(code)?;
        let kept =
            value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
        match &mut value {
            Cow::Borrowed(bytes) => *bytes = bytes.get(..kept).unwrap_or_default(),
            Cow::Owned(bytes) => bytes.truncate(kept),
        }
        Some(value)
    }

    /// Option 93, which is a list (RFC 4578 §2.1); an odd byte at its end is ignored.
    #[must_use]
    pub fn architectures(&self) -> Vec<u16> {
        let value = self.get(Code::ARCHITECTURES).unwrap_or_default();
        value.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
    }

    /// Whether option 77 names this class.
    ///
    /// RFC 3004 puts a length before each class, and FreeBSD's loader does; iPXE sends the bare
    /// word.
    #[must_use]
    pub fn has_user_class(&self, class: &[u8]) -> bool {
        let Some(value) = self.get(Code::USER_CLASS) else { return false };
        if &*value == class {
            return true;
        }
        let mut rest = &*value;
        while let Some((&len, tail)) = rest.split_first() {
            let Some((found, next)) = tail.split_at_checked(usize::from(len)) else { break };
            if found == class {
                return true;
            }
            rest = next;
        }
        false
    }

    /// One sub-option of an option that is a list of them, such as 82 (RFC 3046 §2.0) or 43.
    #[must_use]
    pub fn suboption(&self, code: Code, number: u8) -> Option<Vec<u8>> {
        let value = self.get(code)?;
        let mut rest = &*value;
        while let Some((&found, tail)) = rest.split_first() {
            if found == Code::END.0 {
                break;
            }
            let (&len, tail) = tail.split_first()?;
            let (content, next) = tail.split_at_checked(usize::from(len))?;
            if found == number {
                return Some(content.to_vec());
            }
            rest = next;
        }
        None
    }

    fn array<const N: usize>(&self, code: Code) -> Option<[u8; N]> {
        self.get(code)?.as_ref().try_into().ok()
    }

    fn overload(&self) -> u8 {
        self.array::<1>(Code::OVERLOAD).map_or(0, |[bits]| bits)
    }

    /// Reads one field. An option whose length passes the field's end is dropped, and nothing can
    /// stand behind it; the end itself need not be marked.
    fn read(&mut self, field: &'a [u8]) {
        let mut rest = field;
        while let Some((&code, tail)) = rest.split_first() {
            rest = match Code(code) {
                Code::PAD => tail,
                Code::END => return,
                code => {
                    let Some((&len, tail)) = tail.split_first() else { return };
                    let Some((value, next)) = tail.split_at_checked(usize::from(len)) else {
                        return;
                    };
                    self.list.push((code, value));
                    next
                }
            };
        }
    }
}

/// The bit of option 52 that says `file` holds options.
const OVERLOAD_FILE: u8 = 1;

/// The bit of option 52 that says `sname` holds options.
const OVERLOAD_SNAME: u8 = 2;

#[cfg(test)]
mod test {
    use super::*;

    fn options(field: &[u8]) -> Options<'_> {
        Options::decode(field, &[], &[])
    }

    #[test]
    fn pads_may_stand_anywhere() {
        let options = options(&[0, 0, 53, 1, 1, 0, 60, 1, b'x', 0, 255]);
        assert_eq!(options.message_type(), Some(MessageType::Discover));
        assert_eq!(options.get(Code::VENDOR_CLASS).as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn options_may_end_without_an_end() {
        assert_eq!(options(&[53, 1, 3]).message_type(), Some(MessageType::Request));
    }

    #[test]
    fn what_stands_behind_the_end_is_ignored() {
        assert!(!options(&[53, 1, 3, 255, 60, 1, b'x']).contains(Code::VENDOR_CLASS));
    }

    #[test]
    fn a_malformed_option_costs_only_itself() {
        let options = options(&[53, 3, 1, 1, 1, 50, 3, 10, 0, 0, 54, 4, 10, 0, 0, 1, 255]);
        assert_eq!(options.message_type(), None);
        assert_eq!(options.address(Code::REQUESTED_ADDRESS), None);
        assert_eq!(options.address(Code::SERVER_IDENTIFIER), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn a_length_beyond_the_end_keeps_what_came_before() {
        let options = options(&[53, 1, 1, 60, 200, b'x']);
        assert_eq!(options.message_type(), Some(MessageType::Discover));
        assert!(!options.contains(Code::VENDOR_CLASS));
    }

    #[test]
    fn parts_of_an_option_are_joined_over_all_fields() {
        let main = [52, 1, 3, 43, 1, b'a', 53, 1, 1, 43, 1, b'b', 255];
        let options = Options::decode(&main, &[43, 1, b'c', 255, 9], &[43, 1, b'd']);
        assert_eq!(options.get(Code::VENDOR_SPECIFIC).as_deref(), Some(&b"abcd"[..]));
    }

    #[test]
    fn fields_that_are_not_overloaded_hold_no_options() {
        let options = Options::decode(&[53, 1, 1, 52, 1, 2], &[60, 1, b'f'], &[61, 1, b's']);
        assert!(!options.contains(Code::VENDOR_CLASS));
        assert!(options.contains(Code::CLIENT_IDENTIFIER));
    }

    #[test]
    fn architectures_are_a_list() {
        assert_eq!(options(&[93, 5, 0, 7, 0, 9, 1]).architectures(), [7, 9]);
    }

    #[test]
    fn user_classes_come_with_and_without_their_length() {
        assert!(options(&[77, 4, b'i', b'P', b'X', b'E']).has_user_class(b"iPXE"));
        assert!(options(b"\x4d\x08\x07FreeBSD").has_user_class(b"FreeBSD"));
        assert!(options(b"\x4d\x0a\x01x\x07FreeBSD").has_user_class(b"FreeBSD"));
        assert!(!options(b"\x4d\x08\x09FreeBSD").has_user_class(b"FreeBSD"));
    }

    #[test]
    fn text_loses_only_its_trailing_nuls() {
        assert_eq!(options(b"\x0c\x04a\0b\0").text(Code::HOST_NAME).as_deref(), Some(&b"a\0b"[..]));
        assert_eq!(options(b"\x0c\x01\0").text(Code::HOST_NAME).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn a_suboption_that_passes_the_end_is_not_there() {
        let options = options(&[82, 6, 1, 1, b'c', 11, 9, 1]);
        assert_eq!(options.suboption(Code::RELAY_AGENT_INFORMATION, 1), Some(b"c".to_vec()));
        assert_eq!(options.suboption(Code::RELAY_AGENT_INFORMATION, 11), None);
    }
}
