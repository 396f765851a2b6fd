//! The table of neighbours: its bounds (arp(7), `gc_thresh2` and `gc_thresh3`), how often it was full, and who
//! is in it.

use std::fs;
use std::net::IpAddr;

/// The bounds, what is kept and what there is at most, if the kernel tells them: only in the first network
/// namespace.
pub(crate) fn bounds() -> Option<(u64, u64)> {
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/neigh/default/{name}")).ok()?;
        text.trim().parse().ok()
    };
    Some((number("gc_thresh2")?, number("gc_thresh3")?))
}

/// How often it was full when an entry was to be made, if the kernel tells: only in the first network
/// namespace.
pub(crate) fn times_full() -> Option<u64> {
    overflows(&fs::read_to_string("/proc/net/stat/arp_cache").ok()?)
}

/// Whether it has no entry for an address. Where the table cannot be read, there is taken to be one.
pub(crate) fn is_missing(address: IpAddr) -> bool {
    fs::read_to_string("/proc/net/arp").is_ok_and(|text| {
        let addresses = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        !addresses.filter_map(|known| known.parse().ok()).any(|known: IpAddr| known == address)
    })
}

/// The sum of what each processor has counted, in hexadecimal digits under the name of the column.
fn overflows(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let column = lines.next()?.split_whitespace().position(|name| name == "table_fulls")?;
    let count = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    lines.map(count).try_fold(0, |sum: u64, count| Some(sum.wrapping_add(count?)))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_all_processors_counted_is_added() {
        let text = "entries  allocs   table_fulls\n00000004 0000162b 0000000a\n00000004 00001ede 00000010\n";
        assert_eq!(overflows(text), Some(26));
        assert_eq!(overflows("entries  allocs\n00000004 0000162b\n"), None);
        assert_eq!(overflows(""), None);
    }

    #[test]
    fn an_address_that_nothing_was_sent_to_has_no_entry() {
        assert!(is_missing(IpAddr::from([192, 0, 2, 254])));
    }
}
