//! Names of users, clients and topics with `{i}` (a number), `{i%N}`, `{tenant}` and `{role}` in them.

use crate::error::LoadError;

/// A parsed template: what it can contain was checked once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The number's rest when divided by this; `usize::MAX` for the number itself.
    Index {
        modulus: usize,
    },
    Tenant,
    Role,
}

impl Template {
    /// Parses `text`; `name` is the setting it came from, for the message.
    ///
    /// # Errors
    /// An unknown placeholder, or a brace without its partner.
    pub fn parse(name: &'static str, text: &str) -> Result<Self, LoadError> {
        let invalid = || LoadError::Setting {
            name,
            value: text.to_owned(),
            expected: "text in which {i}, {i%N}, {tenant} and {role} are the only placeholders",
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (placeholder, after) = behind.split_once('}').ok_or_else(invalid)?;
            if before.contains('}') {
                return Err(invalid());
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::of(placeholder).ok_or_else(invalid)?);
            rest = after;
        }
        if rest.contains('}') {
            return Err(invalid());
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self { parts })
    }

    /// The text for number `index`.
    pub fn render(&self, index: usize, tenant: &str, role: &str) -> String {
        self.parts.iter().fold(String::new(), |mut text, part| {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Index { modulus } => text.push_str(&(index % modulus).to_string()),
                Part::Tenant => text.push_str(tenant),
                Part::Role => text.push_str(role),
            }
            text
        })
    }
}

impl Part {
    fn of(placeholder: &str) -> Option<Self> {
        match placeholder {
            "i" => Some(Self::Index { modulus: usize::MAX }),
            "tenant" => Some(Self::Tenant),
            "role" => Some(Self::Role),
            _ => {
                let modulus = placeholder.strip_prefix("i%")?.parse().ok()?;
                (modulus > 0).then_some(Self::Index { modulus })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, index: usize) -> String {
        Template::parse("t", text).unwrap().render(index, "bench", "p")
    }

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        assert_eq!(rendered("telemetry/{tenant}/d{i}", 17), "telemetry/bench/d17");
        assert_eq!(rendered("{i}{i}", 3), "33");
        assert_eq!(rendered("load-{role}{i}", 3), "load-p3");
        assert_eq!(rendered("plain", 3), "plain");
        assert_eq!(rendered("", 3), "");
    }

    #[test]
    fn a_divided_index_repeats() {
        assert_eq!(rendered("d{i%1000}", 2_017), "d17");
        assert_eq!(rendered("d{i%1}", 2_017), "d0");
    }

    #[test]
    fn an_unknown_placeholder_or_a_lone_brace_is_refused() {
        for text in ["d{n}", "d{", "d}", "}{i}", "{}", "d{i}}", "{i%0}", "{i%x}"] {
            assert!(Template::parse("t", text).is_err(), "{text} was accepted");
        }
    }
}
