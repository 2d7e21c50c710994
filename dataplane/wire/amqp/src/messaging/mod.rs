//! Messaging (part 3): what becomes of messages ([`state`]), where they come from and go to
//! ([`terminus`]), and messages themselves ([`message`], [`section`], [`build`]).

pub mod build;
pub mod message;
pub mod section;
pub mod state;
pub mod terminus;
