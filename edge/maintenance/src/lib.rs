//! Preparing and dropping journal segments on a glommio thread.
