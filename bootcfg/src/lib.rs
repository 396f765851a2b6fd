//! From machine, boot environment and network to the text that a loader, guest or host reads.
