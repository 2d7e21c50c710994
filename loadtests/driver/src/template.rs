//! Names of users and topics with `{i}` (index of the pair) and `{tenant}` in them.

use crate::error::LoadError;

/// A parsed template: what it can contain was checked once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Index,
    Tenant,
}

impl Template {
    /// Parses `text`; `name` is the setting it came from, for the message.
    ///
    /// # Errors
    /// A placeholder other than `{i}` and `{tenant}`, or a brace without its partner.
    pub fn parse(name: &'static str, text: &str) -> Result<Self, LoadError> {
        let invalid = || LoadError::Setting {
            name,
            value: text.to_owned(),
            expected: "text in which {i} and {tenant} are the only placeholders",
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (placeholder, after) = behind.split_once('}').ok_or_else(invalid)?;
            if before.contains('}') {
                return Err(invalid());
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(match placeholder {
                "i" => Part::Index,
                "tenant" => Part::Tenant,
                _ => return Err(invalid()),
            });
            rest = after;
        }
        if rest.contains('}') {
            return Err(invalid());
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self { parts })
    }

    /// The text for pair `index`.
    pub fn render(&self, index: usize, tenant: &str) -> String {
        self.parts.iter().fold(String::new(), |mut text, part| {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Index => text.push_str(&index.to_string()),
                Part::Tenant => text.push_str(tenant),
            }
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        let template = Template::parse("t", "telemetry/{tenant}/d{i}").unwrap();
        assert_eq!(template.render(17, "bench"), "telemetry/bench/d17");
        assert_eq!(Template::parse("t", "{i}{i}").unwrap().render(3, "x"), "33");
        assert_eq!(Template::parse("t", "plain").unwrap().render(3, "x"), "plain");
        assert_eq!(Template::parse("t", "").unwrap().render(3, "x"), "");
    }

    #[test]
    fn an_unknown_placeholder_or_a_lone_brace_is_refused() {
        for text in ["d{n}", "d{", "d}", "}{i}", "{}", "d{i}}"] {
            assert!(Template::parse("t", text).is_err(), "{text} was accepted");
        }
    }
}
