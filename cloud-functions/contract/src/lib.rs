//! The types that cross the wire between edge, functions and applications.
