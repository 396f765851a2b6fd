//! UDP sockets that know which of our addresses a datagram came to, and answer from it.
