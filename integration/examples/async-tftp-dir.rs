//! A directory, served by async-tftp (<https://crates.io/crates/async-tftp>): what `cargo lab bench tftp` measures
//! netbe beside. Called with an address, as `10.77.0.1:69`, and the directory.

use std::env;
use std::error::Error;

use async_tftp::server::TftpServerBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(root)) = (arguments.next(), arguments.next()) else {
        return Err("say an address and a directory".into());
    };
    let address = address.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = TftpServerBuilder::with_dir_ro(root)?.bind(address).build().await?;
        server.serve().await
    })?;
    Ok(())
}
