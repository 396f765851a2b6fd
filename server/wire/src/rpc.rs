//! ONC RPC version 2: the heads of calls and replies (RFC 5531 §9), and AUTH_SYS (appendix A).
//!
//! Calls are decoded without a copy; replies always carry the verifier AUTH_NONE of length 0,
//! because FreeBSD's loader takes no other. Authentication beyond AUTH_SYS is recognised, so that it
//! can be refused by name, but not understood.

mod auth;
mod call;
mod reply;

pub use auth::{AUTH_SYS, AuthStat, AuthSys, Credential, Gids};
pub use call::{Call, CallError};
pub use reply::{Accept, Reject, Reply};

/// The version of RPC that RFC 5531 describes.
const RPC_VERSION: u32 = 2;

const CALL: u32 = 0;
const REPLY: u32 = 1;
