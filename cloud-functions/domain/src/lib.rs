//! The rules of the cloud side: registry, credentials, enrolment, streams, commands.
