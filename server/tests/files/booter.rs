//! A booter that knows files by name and keeps what it is told.

use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netbe::boot::{
    Answer, Ask, BootFile, Booter, ClientAddress, Content, Event, FileError, FileRequest,
    Reservation, Role, Roots, Ticket,
};
use netbe::net::Mac;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct FakeBooter {
    files: HashMap<Vec<u8>, (Content, u64)>,
    events: Mutex<Vec<(ClientAddress, Event)>>,
    told: Notify,
}

pub(crate) const TICKET: Ticket = Ticket { boot: None, role: Role::Loader };

impl FakeBooter {
    pub(crate) fn with(mut self, name: &str, bytes: &[u8]) -> Self {
        let content = (Content::Bytes(Arc::from(bytes)), bytes.len() as u64);
        self.files.insert(name.into(), content);
        self
    }

    pub(crate) fn with_file(mut self, name: &str, bytes: &[u8]) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        self.files.insert(name.into(), (Content::File(Arc::new(file)), bytes.len() as u64));
        self
    }

    /// A file of the host as it is now.
    pub(crate) fn with_path(mut self, name: &str, path: &Path) -> Self {
        let file = std::fs::File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        self.files.insert(name.into(), (Content::File(Arc::new(file)), len));
        self
    }

    /// A file that becomes shorter while it is being sent.
    pub(crate) fn with_shrunken_file(mut self, name: &str, bytes: &[u8], claimed: u64) -> Self {
        self = self.with_file(name, bytes);
        self.files.get_mut(name.as_bytes()).unwrap().1 = claimed;
        self
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().iter().map(|(_, event)| event.clone()).collect()
    }

    /// Waits until an event that `wanted` accepts has been reported.
    pub(crate) async fn wait_for(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        let waiting = async {
            loop {
                let told = self.told.notified();
                if let Some(event) = self.events().into_iter().find(&wanted) {
                    return event;
                }
                told.await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        found.unwrap_or_else(|_| panic!("no such event among {:?}", self.events()))
    }

    /// Waits until a file was told to be delivered whole, and checks that it is told once.
    pub(crate) async fn wait_for_delivery(&self, file: &str) {
        let delivered = |event: &Event| match event {
            Event::Sent { name, bytes, total, .. } => name == file && bytes == total,
            _ => false,
        };
        self.wait_for(delivered).await;
        let count = self.events().iter().filter(|event| delivered(event)).count();
        assert_eq!(count, 1, "{:?}", self.events());
    }
}

impl Booter for FakeBooter {
    fn reservation(&self, _: Mac) -> Option<Reservation> {
        None
    }

    fn reserved_for(&self, _: Ipv4Addr) -> Option<String> {
        None
    }

    fn unreserved(&self) -> Vec<Vec<Mac>> {
        Vec::new()
    }

    fn lives(&self, _: Ipv4Addr) -> bool {
        false
    }

    fn decide(&self, _: &Ask) -> Option<Answer> {
        None
    }

    fn open(&self, request: &FileRequest<'_>) -> Result<BootFile, FileError> {
        if request.name == b"/refused" {
            return Err(FileError::Refused("this machine boots from its disk".to_owned()));
        }
        let (content, len) = self.files.get(request.name).ok_or(FileError::NotFound)?.clone();
        Ok(BootFile { content, len, mime: "application/efi", ticket: TICKET })
    }

    fn awaited_root(&self, _address: IpAddr) -> Option<String> {
        None
    }

    fn roots_of(&self, _: IpAddr) -> Roots {
        Roots::default()
    }

    fn report(&self, client: ClientAddress, event: Event) {
        self.events.lock().unwrap().push((client, event));
        self.told.notify_waiters();
    }
}

/// Bytes that tell where they stand.
pub(crate) fn numbered(len: usize) -> Vec<u8> {
    (0u32..).flat_map(u32::to_be_bytes).take(len).collect()
}
