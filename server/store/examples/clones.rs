//! Makes clones one after the other in one process, as a server does that gives each machine a root, and
//! prints how many nanoseconds that took: what `cargo lab bench store` measures beside netbe(8) itself.
//!
//! ```text
//! clones LOCATION STATE clone SOURCE PREFIX COUNT    clones PREFIX-0 to PREFIX-(COUNT - 1)
//! clones LOCATION STATE list COUNT                   looks at all environments so many times
//! ```

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use store::{Point, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (store, begin) = match arguments.as_slice() {
        [location, state, "clone" | "list", ..] => {
            (Store::open(&location.parse()?, Path::new(state))?, Instant::now())
        }
        _ => return Err(USAGE.into()),
    };
    match arguments.get(2..).unwrap_or_default() {
        ["clone", source, prefix, count] => {
            let source: Point = source.parse()?;
            for number in 0..count.parse::<u32>()? {
                store.clone_environment(&source, &format!("{prefix}-{number}").parse()?)?;
            }
        }
        ["list", count] => {
            for _ in 0..count.parse::<u32>()? {
                let listing = store.list()?;
                if let Some(broken) = listing.unreadable.first() {
                    return Err(broken.to_string().into());
                }
                black_box(listing.environments);
            }
        }
        _ => return Err(USAGE.into()),
    }
    println!("{}", begin.elapsed().as_nanos());
    Ok(())
}

const USAGE: &str = "clones LOCATION STATE (clone SOURCE PREFIX COUNT | list COUNT)";
