//! The domain XML of libvirt: a guest of QEMU that boots over the network, or with its kernel given directly.

use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer, XmlVersion};

use crate::error::{interface, refuse};
use crate::host_root::TAG;
use crate::qemu::Kernel;
use crate::rule::{Reading, Rule};
use crate::{Channel, ConfigError, Guest, HostRoot, Mac};

/// A domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Memory in MiB.
    pub memory: u64,
    /// Number of processors.
    pub cpus: u16,
    /// The name that libvirt has for what runs it: kvm, qemu, bhyve.
    pub by: String,
    /// Whether the processor executes its instructions (KVM).
    pub accelerated: bool,
    /// What boots it.
    pub boot: Boot,
    /// Its root, where that is a directory of the host, and whether it is read-only. It is written and not read.
    pub root: Option<(HostRoot, bool)>,
    /// Its network cards, of which the first boots.
    pub cards: Vec<Card>,
}

/// What boots a domain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Boot {
    /// Its BIOS, from the network.
    #[default]
    Bios,
    /// UEFI, from the network; libvirt chooses the files.
    Uefi,
    /// A kernel of the host's.
    Kernel(Kernel),
}

/// A network card of a domain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Card {
    /// The bridge of the host.
    pub bridge: Option<String>,
    /// The Ethernet address, as it is written.
    pub mac: Option<String>,
}

/// The domain of a guest, on a bridge.
#[must_use]
pub fn domain(guest: &Guest, boot: Boot, bridge: &str, accelerated: bool) -> Domain {
    Domain {
        by: if accelerated { "kvm" } else { "qemu" }.to_owned(),
        name: guest.name.clone(),
        memory: guest.memory.into(),
        cpus: guest.cpus,
        accelerated,
        root: guest.root.host.clone().map(|root| (root, guest.root.read_only)),
        boot,
        cards: vec![Card { bridge: Some(bridge.to_owned()), mac: Some(guest.mac.to_string()) }],
    }
}

/// The text of a domain, for `virsh define`.
pub fn render(domain: &Domain) -> Result<String, ConfigError> {
    let Domain { name, memory, cpus, by: _, accelerated, boot, root, cards } = domain;
    // libvirt makes names of files of it.
    let reason = "write letters, digits and - _ . and begin with a letter or digit";
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    refuse("the name", name, FORMAT, reason, |c| !plain(c))?;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        let (what, value) = ("the name", name.clone());
        return Err(ConfigError::Character { what, value, format: FORMAT, reason });
    }
    let mut xml = Xml(Writer::new_with_indent(Vec::new(), b' ', 2));
    xml.open("domain", &[("type", if *accelerated { "kvm" } else { "qemu" })]);
    xml.text("name", &[], name)?;
    xml.text("memory", &[("unit", "MiB")], &memory.to_string())?;
    if matches!(root, Some((HostRoot { channel: Channel::VirtioFs { .. }, .. }, _))) {
        // virtiofsd reads and writes the guest's memory.
        xml.open("memoryBacking", &[]);
        xml.empty("source", &[("type", "memfd")]);
        xml.empty("access", &[("mode", "shared")]);
        xml.close("memoryBacking");
    }
    xml.text("vcpu", &[], &cpus.to_string())?;
    match boot {
        Boot::Uefi => xml.open("os", &[("firmware", "efi")]),
        Boot::Bios | Boot::Kernel(_) => xml.open("os", &[]),
    }
    xml.text("type", &[("arch", "x86_64"), ("machine", "q35")], "hvm")?;
    if let Boot::Kernel(Kernel { kernel, initrd, command_line }) = boot {
        xml.text("kernel", &[], path(kernel)?)?;
        if let Some(initrd) = initrd {
            xml.text("initrd", &[], path(initrd)?)?;
        }
        xml.text("cmdline", &[], command_line)?;
    }
    xml.close("os");
    xml.open("features", &[]);
    xml.empty("acpi", &[]);
    xml.empty("apic", &[]);
    xml.close("features");
    for (name, what) in
        [("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")]
    {
        xml.text(name, &[], what)?;
    }
    xml.open("devices", &[]);
    if let Some((root, read_only)) = root {
        xml.root(root, *read_only)?;
    }
    for (index, Card { bridge, mac }) in cards.iter().enumerate() {
        xml.open("interface", &[("type", "bridge")]);
        let bridge = bridge.as_deref().unwrap_or_default();
        interface(bridge, FORMAT, true)?;
        if let Some(mac) = mac {
            let reason = "it is no Ethernet address";
            let Some(mac) = Mac::parse(mac) else {
                let (what, value) = ("the address", mac.clone());
                return Err(ConfigError::Character { what, value, format: FORMAT, reason });
            };
            xml.empty("mac", &[("address", &mac.to_string())]);
        }
        xml.empty("source", &[("bridge", bridge)]);
        xml.empty("model", &[("type", "virtio")]);
        if matches!(boot, Boot::Bios | Boot::Uefi) && index == 0 {
            xml.empty("boot", &[("order", "1")]);
        }
        xml.close("interface");
    }
    xml.open("serial", &[("type", "pty")]);
    xml.empty("target", &[("port", "0")]);
    xml.close("serial");
    xml.open("console", &[("type", "pty")]);
    xml.empty("target", &[("type", "serial"), ("port", "0")]);
    xml.close("console");
    // Newer builds of edk2 do no network boot without a source of random numbers.
    xml.open("rng", &[("model", "virtio")]);
    xml.text("backend", &[("model", "random")], "/dev/urandom")?;
    xml.close("rng");
    xml.close("devices");
    xml.close("domain");
    Ok(String::from_utf8_lossy(&xml.0.into_inner()).into_owned() + "\n")
}

/// A file of the host.
fn path(path: &str) -> Result<&str, ConfigError> {
    if path.starts_with('/') {
        return Ok(path);
    }
    let (what, value, reason) = ("the file", path.to_owned(), "libvirt takes absolute paths");
    Err(ConfigError::Character { what, value, format: FORMAT, reason })
}

/// Writes into memory, which does not fail.
struct Xml(Writer<Vec<u8>>);

impl Xml {
    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        let start = BytesStart::new(name).with_attributes(attributes.iter().copied());
        let _ = self.0.write_event(Event::Start(start));
    }

    fn close(&mut self, name: &str) {
        let _ = self.0.write_event(Event::End(quick_xml::events::BytesEnd::new(name)));
    }

    /// The device of a root that is a directory of the host.
    fn root(&mut self, root: &HostRoot, read_only: bool) -> Result<(), ConfigError> {
        let directory = root.checked_directory(FORMAT)?;
        let mut attributes = vec![("type", "mount"), ("accessmode", "passthrough")];
        let driver = match root.channel {
            Channel::NineP => {
                // A subvolume of btrfs is a device of its own.
                attributes.push(("multidevs", "remap"));
                "path"
            }
            Channel::VirtioFs { .. } if read_only => {
                let (what, value) = ("the root", directory.to_owned());
                let reason = "virtiofs cannot make it read-only: set the root to 9p or nfs";
                return Err(ConfigError::Character { what, value, format: FORMAT, reason });
            }
            Channel::VirtioFs { .. } => "virtiofs",
        };
        self.open("filesystem", &attributes);
        self.empty("driver", &[("type", driver)]);
        if let Channel::VirtioFs { .. } = root.channel {
            // Programs may have capabilities, which are extended attributes.
            self.empty("binary", &[("xattr", "on")]);
        }
        self.empty("source", &[("dir", directory)]);
        self.empty("target", &[("dir", TAG)]);
        if read_only {
            self.empty("readonly", &[]);
        }
        self.close("filesystem");
        Ok(())
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        let start = BytesStart::new(name).with_attributes(attributes.iter().copied());
        let _ = self.0.write_event(Event::Empty(start));
    }

    fn text(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        text: &str,
    ) -> Result<(), ConfigError> {
        // XML 1.0 §2.2 has no control characters, and libvirt takes spaces at the ends away.
        let reason = "it has a control character";
        let bad = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
        refuse("the text", text, FORMAT, reason, bad)?;
        let element = self.0.create_element(name).with_attributes(attributes.iter().copied());
        let _ = element.write_text_content(BytesText::new(text));
        Ok(())
    }
}

/// Reads the domains of a text, as far as netbe knows what they mean.
#[must_use]
pub fn read(text: &str) -> Reading<Domain> {
    let mut reading = Reading::default();
    let mut reader = Reader::from_str(text);
    let mut open = Open::default();
    let (mut line, mut counted) = (1_usize, 0);
    loop {
        let event = reader.read_event();
        // The place is one of bytes, of which a line feed is one.
        let place = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX).min(text.len());
        let new = text.as_bytes().get(counted..place).unwrap_or_default();
        line = line.saturating_add(new.iter().filter(|byte| **byte == b'\n').count());
        counted = place;
        let done = match event {
            Ok(Event::Eof) => {
                if let Some(begun) = open.begun {
                    reading.report(begun, Rule::Syntax, "the <domain> that begins here never ends");
                }
                return reading;
            }
            Ok(Event::Start(start)) => open.enter(&start, line).map(|()| None),
            Ok(Event::Empty(start)) => open.enter(&start, line).and_then(|()| open.leave()),
            Ok(Event::End(_)) => open.leave(),
            Ok(Event::Text(more)) => open.say(&more.xml_content(XmlVersion::default())),
            Ok(Event::CData(more)) => open.say(&more.xml_content(XmlVersion::default())),
            Ok(Event::GeneralRef(name)) => {
                let reference = format!("&{};", &*name);
                match unescape(&reference) {
                    Ok(plain) => open.say(&plain),
                    Err(_) => Err(format!("{reference} is no character: write &amp; for &")),
                }
            }
            Ok(_) => Ok(None),
            Err(error) => Err(format!("this is not XML: {error}")),
        };
        match done {
            Ok(Some((line, domain))) => reading.add(line, domain),
            Ok(None) => {}
            Err(message) => {
                reading.report(line, Rule::Syntax, message);
                return reading;
            }
        }
    }
}

/// The elements that are open, and the domain that they have told so far.
#[derive(Default)]
struct Open {
    path: Vec<String>,
    text: String,
    begun: Option<usize>,
    domain: Option<Domain>,
    unit: u64,
}

type Finished = Option<(usize, Domain)>;

impl Open {
    fn enter(&mut self, start: &BytesStart<'_>, line: usize) -> Result<(), String> {
        if self.path.len() >= DEEPEST {
            return Err("elements are nested more deeply than in any domain".to_owned());
        }
        let name: &str = start.name().into_inner();
        self.path.push(name.to_owned());
        self.text.clear();
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| format!("this is not XML: {error}"))?;
            let value = attribute.normalized_value(XmlVersion::default());
            let value = value.map_err(|error| format!("this is not XML: {error}"))?;
            attributes.push((attribute.key.into_inner().to_owned(), value.into_owned()));
        }
        let find = |wanted: &str| {
            attributes.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.clone())
        };
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        if name == "domain" && self.domain.is_none() {
            self.begun = Some(line);
            let by = find("type").unwrap_or_default();
            let accelerated = by == "kvm";
            self.domain = Some(Domain {
                name: String::new(),
                memory: 0,
                cpus: 1,
                by,
                accelerated,
                root: None,
                boot: Boot::Bios,
                cards: Vec::new(),
            });
            return Ok(());
        }
        let Some(domain) = &mut self.domain else { return Ok(()) };
        match path.as_slice() {
            [.., "domain", "memory"] => {
                let unit = find("unit").unwrap_or_else(|| "KiB".to_owned());
                self.unit =
                    bytes_in(&unit).ok_or_else(|| format!("{unit} is no unit of memory"))?;
            }
            [.., "domain", "os"] if find("firmware").as_deref() == Some("efi") => {
                domain.boot = Boot::Uefi;
            }
            [.., "devices", "interface"] => domain.cards.push(Card::default()),
            [.., "interface", "mac"] => {
                let mac = find("address");
                domain.cards.last_mut().into_iter().for_each(|card| card.mac.clone_from(&mac));
            }
            [.., "interface", "source"] => {
                let bridge = find("bridge");
                domain
                    .cards
                    .last_mut()
                    .into_iter()
                    .for_each(|card| card.bridge.clone_from(&bridge));
            }
            _ => {}
        }
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<Finished, String> {
        self.text += text;
        Ok(None)
    }

    fn leave(&mut self) -> Result<Finished, String> {
        let text = std::mem::take(&mut self.text);
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        if let Some(domain) = &mut self.domain {
            match path.as_slice() {
                [.., "domain", "name"] => domain.name = text.trim().to_owned(),
                [.., "domain", "memory"] => {
                    let number: Option<u64> = text.trim().parse().ok();
                    let bytes = number.and_then(|number| number.checked_mul(self.unit));
                    let bytes = bytes.ok_or_else(|| format!("{} is no memory", text.trim()))?;
                    domain.memory = bytes / MEBI;
                }
                [.., "domain", "vcpu"] => {
                    let cpus = text.trim().parse();
                    domain.cpus = cpus.map_err(|_| format!("{} is no number", text.trim()))?;
                }
                [.., "os", word @ ("kernel" | "initrd" | "cmdline")] => {
                    let mut kernel = match std::mem::take(&mut domain.boot) {
                        Boot::Kernel(kernel) => kernel,
                        Boot::Bios | Boot::Uefi => Kernel {
                            kernel: String::new(),
                            initrd: None,
                            command_line: String::new(),
                        },
                    };
                    match *word {
                        "kernel" => kernel.kernel = text,
                        "initrd" => kernel.initrd = Some(text),
                        _ => kernel.command_line = text,
                    }
                    domain.boot = Boot::Kernel(kernel);
                }
                _ => {}
            }
        }
        let ends = self.path.pop().is_some_and(|name| name == "domain")
            && !self.path.iter().any(|name| name == "domain");
        if !ends {
            return Ok(None);
        }
        let begun = self.begun.take().unwrap_or(1);
        let domain = self.domain.take();
        if domain.as_ref().is_some_and(|domain| domain.name.is_empty()) {
            return Err("this domain has no <name>".to_owned());
        }
        Ok(domain.map(|domain| (begun, domain)))
    }
}

/// The bytes of a unit, as libvirt names them.
fn bytes_in(unit: &str) -> Option<u64> {
    Some(match unit {
        "b" | "bytes" => 1,
        "KB" => 1_000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => MEBI,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    })
}

const MEBI: u64 = 1 << 20;
/// How deep elements stand in each other, at most.
const DEEPEST: usize = 64;
const FORMAT: &str = "a domain of libvirt";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy;
    use crate::host_root;

    fn kernel(command_line: &str) -> Boot {
        let initrd = Some("/boot/initrd & co".to_owned());
        Boot::Kernel(Kernel {
            kernel: "/boot/<k>".into(),
            initrd,
            command_line: command_line.into(),
        })
    }

    #[test]
    fn a_root_of_the_host_is_a_file_system_of_the_domain() {
        for (guest, expected) in [
            (host_root::test::nine_p(), include_str!("libvirt/9p.xml")),
            (host_root::test::virtio_fs(), include_str!("libvirt/virtiofs.xml")),
        ] {
            let made = domain(&guest, kernel("quiet"), "br0", true);
            assert_eq!(render(&made).unwrap(), expected);
        }
    }

    #[test]
    fn the_slides_guest_has_a_domain() {
        let made = domain(&strategy::head(), Boot::Uefi, "br0", true);
        assert_eq!(render(&made).unwrap(), include_str!("libvirt/slides.xml"));
    }

    #[test]
    fn what_xml_would_act_on_is_escaped() {
        let made = domain(&strategy::head(), kernel("a=<b> & \"c\" 'd' ]]>"), "br0", false);
        let text = render(&made).unwrap();
        assert!(text.contains("<kernel>/boot/&lt;k&gt;</kernel>"), "{text}");
        assert_eq!(read(&text).whole(), Ok(vec![made]));
        for odd in ["a\u{1b}b", "a\nb", "a\0", "\u{ffff}"] {
            let made = domain(&strategy::head(), kernel(odd), "br0", true);
            assert!(render(&made).is_err(), "{odd:?}");
        }
        for name in ["", "../x", "a b", "a/b", "<x>"] {
            let made = domain(&strategy::head(), Boot::Bios, "br0", true);
            assert!(render(&Domain { name: name.into(), ..made }).is_err(), "{name}");
        }
        assert!(render(&domain(&strategy::head(), Boot::Bios, "br0'/>", true)).is_err());
    }

    #[test]
    fn people_write_it_in_other_ways_too() {
        let text = "<?xml version='1.0'?>\n<!-- x -->\n<domain type='kvm' id='3'>\n <name>web&#49;</name>\n \
                    <memory>2097152</memory><currentMemory unit='KiB'>1</currentMemory>\n <vcpu placement='static'>4</vcpu>\n \
                    <devices><interface type='network'><source network='default'/><mac address='52:54:00:AA:bb:cc'/>\
                    </interface></devices>\n</domain>";
        let made = &read(text).entries[0];
        assert_eq!((made.line, made.value.name.as_str(), made.value.memory), (3, "web1", 2048));
        let card = Card { bridge: None, mac: Some("52:54:00:AA:bb:cc".into()) };
        assert_eq!((made.value.cpus, made.value.cards.as_slice()), (4, [card].as_slice()));
        for text in
            ["<domain>", "<domain></x>", "<domain/>", "<domain><name>&x;</name></domain>", "<a b>"]
        {
            assert_eq!(read(text).diagnostics.len(), 1, "{text}");
        }
        let deep = "<a>".repeat(100_000);
        assert_eq!(read(&deep).diagnostics.len(), 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            guest in strategy::guest(), words in "[ -~äß]{0,20}", which in 0..3,
        ) {
            let boot = match which { 0 => Boot::Bios, 1 => Boot::Uefi, _ => kernel(&words) };
            let made = domain(&guest, boot, "br0", true);
            if let Ok(text) = render(&made) {
                prop_assert_eq!(read(&text).whole(), Ok(vec![made]));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(
            text in "(</?(domain|name|memory|interface|mac)( a='b'| unit='KiB')*/?>|[ -~\n]|&#?[a-z0-9]{1,3};){0,30}"
        ) {
            let _ = read(&text);
        }
    }
}
