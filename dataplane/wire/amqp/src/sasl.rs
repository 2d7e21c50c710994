//! The SASL layer: what is said before the connection is opened (part 5, 5.3).

use crate::clause;
use crate::composite::{Composite, composite, head};
use crate::definitions::{SecretBytes, choices, require};
use crate::descriptor;
use crate::error::{DecodeError, EncodeError, FieldName, invalid_field, not_implemented};
use crate::value::read::Reader;
use crate::value::symbol::{Symbol, Symbols};

composite! {
    /// What a server offers (5.3.3.1).
    SaslMechanisms<'a> as "sasl-mechanisms" = descriptor::SASL_MECHANISMS;
    /// One at least.
    mandatory sasl_server_mechanisms: Symbols<'a>,
}

composite! {
    /// What a client chooses (5.3.3.2).
    SaslInit<'a> as "sasl-init" = descriptor::SASL_INIT;
    /// The mechanism.
    mandatory mechanism: Symbol<'a>,
    /// The mechanism's first bytes: a password, with PLAIN.
    optional initial_response: SecretBytes<'a>,
    /// The host the client means to speak to.
    optional hostname: &'a str,
}

composite! {
    /// What a server asks (5.3.3.3).
    SaslChallenge<'a> as "sasl-challenge" = descriptor::SASL_CHALLENGE;
    /// The mechanism's bytes.
    mandatory challenge: SecretBytes<'a>,
}

composite! {
    /// What a client answers (5.3.3.4).
    SaslResponse<'a> as "sasl-response" = descriptor::SASL_RESPONSE;
    /// The mechanism's bytes.
    mandatory response: SecretBytes<'a>,
}

composite! {
    /// Whether a client is who it says it is (5.3.3.5).
    SaslOutcome<'a> as "sasl-outcome" = descriptor::SASL_OUTCOME;
    /// The verdict.
    mandatory code: SaslCode,
    /// The mechanism's last bytes.
    optional additional_data: SecretBytes<'a>,
}

choices! {
    /// The verdicts (5.3.3.6).
    SaslCode: u8;
    /// It is.
    Ok = 0,
    /// The credentials are wrong.
    Auth = 1,
    /// Something broke.
    Sys = 2,
    /// Something broke, and will not mend by itself.
    SysPerm = 3,
    /// Something broke, and may work later.
    SysTemp = 4,
}

/// One of the five. `Debug` shows no bytes of a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sasl<'a> {
    /// 5.3.3.1.
    Mechanisms(SaslMechanisms<'a>),
    /// 5.3.3.2.
    Init(SaslInit<'a>),
    /// 5.3.3.3.
    Challenge(SaslChallenge<'a>),
    /// 5.3.3.4.
    Response(SaslResponse<'a>),
    /// 5.3.3.5.
    Outcome(SaslOutcome<'a>),
}

impl<'a> Sasl<'a> {
    /// From the front of a frame's body. The reader is behind it then.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (code, list, walk) = head(reader)?;
        Ok(match code {
            Some(descriptor::SASL_MECHANISMS) => {
                Self::Mechanisms(SaslMechanisms::read(list, walk)?.checked()?)
            }
            Some(descriptor::SASL_INIT) => Self::Init(SaslInit::read(list, walk)?),
            Some(descriptor::SASL_CHALLENGE) => Self::Challenge(SaslChallenge::read(list, walk)?),
            Some(descriptor::SASL_RESPONSE) => Self::Response(SaslResponse::read(list, walk)?),
            Some(descriptor::SASL_OUTCOME) => Self::Outcome(SaslOutcome::read(list, walk)?),
            _ => return Err(not_implemented(clause::PERFORMATIVE_UNKNOWN)),
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Mechanisms(mechanisms) => {
                let offered = &mechanisms.sasl_server_mechanisms;
                require(!offered.is_empty(), clause::SASL_MECHANISMS_EMPTY)?;
                mechanisms.write_composite(out)
            }
            Self::Init(init) => init.write_composite(out),
            Self::Challenge(challenge) => challenge.write_composite(out),
            Self::Response(response) => response.write_composite(out),
            Self::Outcome(outcome) => outcome.write_composite(out),
        }
    }
}

impl SaslMechanisms<'_> {
    fn checked(self) -> Result<Self, DecodeError> {
        let field = FieldName { composite: "sasl-mechanisms", field: "sasl_server_mechanisms" };
        if self.sasl_server_mechanisms.is_empty() {
            return Err(invalid_field(clause::SASL_MECHANISMS_EMPTY).within(field));
        }
        Ok(self)
    }
}
