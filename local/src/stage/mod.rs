//! What the demo and the chaos run share: the resources that an operator would
//! make, the daemon as a process, and the world as it looks from outside. Judges
//! nothing.

pub mod account;
pub mod config;
pub mod daemon;
mod folder;
pub mod mailbox;
pub mod observe;
pub mod provision;
pub mod screen;

pub use self::folder::{FolderError, renew};
