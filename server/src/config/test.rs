use super::*;

fn config(text: &str) -> Result<Config, String> {
    let raw = Raw::parse(text).map_err(|error| error.to_string())?;
    Config::try_from(raw).map_err(|error| error.to_string())
}

fn refused(text: &str) -> String {
    config(text).unwrap_err()
}

#[test]
fn nothing_need_be_written() {
    let config = config("").unwrap();
    assert_eq!(config.mode, Mode::Passive);
    assert_eq!(config.store, default_store(Path::new(DEFAULT_STATE)));
    assert_eq!(config.http, "0.0.0.0:80".parse().unwrap());
    assert_eq!(config.lease, Duration::from_secs(3600));
}

#[test]
fn everything_can_be_written() {
    let config = config(
        r#"
        store = "dir:/srv/netbe"
        state = "/var/netbe"
        interfaces = ["eth0"]
        mode = "serve"
        ranges = ["10.0.0.100-10.0.0.150", "10.0.0.200-10.0.0.250"]
        router = "10.0.0.1"
        dns = ["10.0.0.2"]
        domain = "lab.example.org"
        mtu = 9000
        lease = 600
        http = "8080"
        default = "base"
        [machines.web1]
        macs = ["52:54:00:00:00:01"]
        address = "10.0.0.10"
        environment = "base"
        "#,
    )
    .unwrap();
    assert_eq!(config.ranges.len(), 2);
    assert_eq!(config.http, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(config.domain.as_deref(), Some("lab.example.org"));
    let machine = config.machines.values().next().unwrap();
    assert_eq!(machine.address, Some(Ipv4Addr::new(10, 0, 0, 10)));
}

#[test]
fn flags_beat_the_file() {
    let file = Raw::parse("lease = 600\nhttp = \"1\"\ninterfaces = [\"a\"]").unwrap();
    let flags = Raw { lease: Some(700), ..Raw::default() };
    let both = flags.or(file);
    assert_eq!((both.lease, both.http.as_deref()), (Some(700), Some("1")));
    assert_eq!(both.interfaces, ["a"]);
}

#[test]
fn the_command_for_proxy_mode_serves_the_same() {
    let plain = config("mode = \"serve\"").unwrap();
    assert_eq!(plain.beside("eth0"), "netbe serve --interface eth0 --mode proxy");
    let other = config("state = \"/s\"\nstore = \"dir:/d\"\nhttp = \"81\"\ndefault = \"b\"");
    assert_eq!(
        other.unwrap().beside("lan"),
        "netbe serve --state /s --store dir:/d --http 0.0.0.0:81 --default b --interface lan \
         --mode proxy"
    );
}

#[test]
fn places_to_listen_are_short_to_write() {
    for (text, address) in [
        ("8080", "0.0.0.0:8080"),
        (":8080", "0.0.0.0:8080"),
        ("10.0.0.1", "10.0.0.1:80"),
        ("10.0.0.1:81", "10.0.0.1:81"),
        ("[::1]:81", "[::1]:81"),
    ] {
        assert_eq!(listen(text), Ok(address.parse().unwrap()), "{text}");
    }
    assert!(listen("host:80").is_err() && listen("0").is_err() && listen("").is_err());
}

#[test]
fn mistakes_are_answered_with_what_to_write() {
    let table = [
        (
            "mode = \"proxy\"\nranges = [\"10.0.0.9-10.0.0.20\"]",
            "ranges are given, but the mode is proxy: set mode to serve to hand them out",
        ),
        (
            "domain = \"my lab\"",
            "domain: \"my lab\" is not a domain name: write one as in lab.example.org",
        ),
        ("mtu = 20", "mtu: 20 bytes: write 576 to 9216; Ethernet has 1500"),
        (
            "mode = \"server\"",
            "mode: \"server\" is not a mode: write serve (hand out addresses), proxy (boot machines beside \
             another DHCP server) or passive (only listen)",
        ),
        (
            "ranges = [\"10.0.0.9-10.0.0.20\"]",
            "ranges are given, but the mode is passive: set mode to serve to hand them out",
        ),
        (
            "mode = \"serve\"\nranges = [\"10.0.0.9-10.0.0.20\", \"10.0.0.20-10.0.0.30\"]",
            "ranges: 10.0.0.9-10.0.0.20 and 10.0.0.20-10.0.0.30 share addresses: write them \
             as one",
        ),
        (
            "router = \"gw\"",
            "router: \"gw\" cannot be used by machines: write an address as in 192.168.2.1",
        ),
        (
            "dns = [\"0.0.0.0\"]",
            "dns: \"0.0.0.0\" cannot be used by machines: write an address as in 192.168.2.1",
        ),
        ("lease = 5", "lease: 5 seconds: write 120 (two minutes) to 31536000 (a year)"),
        (
            "http = \"here\"",
            "http: \"here\" is not an address to listen on: write a port as in 8080, or ADDRESS:PORT",
        ),
        (
            "interfaces = [\"eth 0\"]",
            "interfaces: \"eth 0\" is not the name of an interface: write it as `ip link` or `ifconfig` \
             shows it",
        ),
        ("state = \"here\"", "state: here is relative: write a path that begins with /"),
        (
            "store = \"/srv\"",
            "store: \"/srv\" is not a store: write dir:/path, btrfs:/path or zfs:pool/dataset",
        ),
        (
            "[machines.\"my pc\"]",
            "machines.my pc: 'my pc' is not a host name: use letters, digits and inner hyphens, at most 63 \
             between two dots and 128 in all",
        ),
        (
            "[machines.a]\naddress = \"255.255.255.255\"",
            "machines.a: 255.255.255.255 cannot be a machine's address: write an address of your network",
        ),
    ];
    for (text, sentence) in table {
        assert_eq!(refused(text), sentence, "{text}");
    }
}

#[test]
fn a_word_that_nobody_asks_for_is_shown_with_its_line() {
    let sentence = refused("lease = 600\nrange = \"x\"\n");
    assert!(sentence.starts_with("line 2: there is no key `range`"), "{sentence}");
}
