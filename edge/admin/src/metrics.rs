//! Writing metrics in the Prometheus text format, version 0.0.4.
//!
//! Sources write sample by sample, in any order; the text groups them by family, each with one HELP and TYPE, as the
//! format demands. Names and labels are made valid rather than refused: a scrape with an odd name is worth more than none.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Something that has metrics. `collect` is called for each scrape, on the admin endpoint's thread: it reads counters and
/// does not block.
pub trait MetricsSource: Send + Sync {
    /// Writes the present values.
    fn collect(&self, out: &mut MetricsText);
}

/// Metrics on their way to a scrape.
#[derive(Default)]
pub struct MetricsText {
    families: BTreeMap<String, Family>,
}

struct Family {
    kind: Kind,
    help: String,
    samples: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A histogram's values.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<'a> {
    /// Upper bounds, ascending, each with the number of observations in that bucket alone (not cumulative).
    pub buckets: &'a [(f64, u64)],
    /// Observations above the last bound.
    pub above: u64,
    /// Sum of all observations.
    pub sum: f64,
}

impl MetricsText {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A count that only grows; by convention its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        let Some((name, samples)) = self.family(name, help, Kind::Counter) else { return };
        write_sample(samples, &name, "", labels, None, &value.to_string());
    }

    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let Some((name, samples)) = self.family(name, help, Kind::Gauge) else { return };
        write_sample(samples, &name, "", labels, None, &number(value));
    }

    /// A distribution.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        values: &Histogram<'_>,
    ) {
        let Some((name, samples)) = self.family(name, help, Kind::Histogram) else { return };
        let mut count: u64 = 0;
        for (bound, observations) in values.buckets {
            count = count.saturating_add(*observations);
            let bound = number(*bound);
            write_sample(samples, &name, "_bucket", labels, Some(&bound), &count.to_string());
        }
        count = count.saturating_add(values.above);
        write_sample(samples, &name, "_bucket", labels, Some("+Inf"), &count.to_string());
        write_sample(samples, &name, "_sum", labels, None, &number(values.sum));
        write_sample(samples, &name, "_count", labels, None, &count.to_string());
    }

    /// The whole text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            text.push_str(&family.samples);
        }
        text
    }

    /// The family's valid name and the text its samples go to; nothing if the name is taken by another kind.
    fn family(&mut self, name: &str, help: &str, kind: Kind) -> Option<(String, &mut String)> {
        let name = valid_name(name, true);
        let family = self.families.entry(name.clone()).or_insert_with(|| Family {
            kind,
            help: help.to_owned(),
            samples: String::new(),
        });
        if family.kind != kind {
            tracing::warn!(name, taken = ?family.kind, given = ?kind, "metric of two kinds; left out");
            return None;
        }
        Some((name, &mut family.samples))
    }
}

fn write_sample(
    samples: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&str, &str)],
    bound: Option<&str>,
    value: &str,
) {
    samples.push_str(name);
    samples.push_str(suffix);
    let bound = bound.map(|bound| ("le", bound));
    let mut separator = '{';
    for (label, text) in labels.iter().copied().chain(bound) {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(samples, "{separator}{}=\"{text}\"", valid_name(label, false));
        separator = ',';
    }
    if separator == ',' {
        samples.push('}');
    }
    let _ = writeln!(samples, " {value}");
}

/// A name of `[a-zA-Z_][a-zA-Z0-9_]*`, in metrics also `:`; whatever else becomes `_`.
fn valid_name(name: &str, colons: bool) -> String {
    let valid = |character: char| {
        character.is_ascii_alphanumeric() || character == '_' || (colons && character == ':')
    };
    let mut text: String =
        name.chars().map(|character| if valid(character) { character } else { '_' }).collect();
    if text.starts_with(|first: char| first.is_ascii_digit()) || text.is_empty() {
        text.insert(0, '_');
    }
    text
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn families_are_whole_and_have_one_head_each() {
        let mut text = MetricsText::new();
        text.counter("b_total", "Bees.", &[("shard", "0")], 1);
        text.gauge("a_depth", "Depth.", &[], 2.5);
        text.counter("b_total", "Bees.", &[("shard", "1"), ("kind", "x")], 3);
        let expected = "\
# HELP a_depth Depth.
# TYPE a_depth gauge
a_depth 2.5
# HELP b_total Bees.
# TYPE b_total counter
b_total{shard=\"0\"} 1
b_total{shard=\"1\",kind=\"x\"} 3
";
        assert_eq!(text.render(), expected);
    }

    #[test]
    fn buckets_are_cumulative_and_end_in_infinity() {
        let mut text = MetricsText::new();
        let buckets = [(0.005, 2), (1.0, 0), (10.0, 3)];
        let values = Histogram { buckets: &buckets, above: 1, sum: 99.5 };
        text.histogram("d_seconds", "Duration.", &[("t", "x")], &values);
        let expected = "\
# HELP d_seconds Duration.
# TYPE d_seconds histogram
d_seconds_bucket{t=\"x\",le=\"0.005\"} 2
d_seconds_bucket{t=\"x\",le=\"1\"} 2
d_seconds_bucket{t=\"x\",le=\"10\"} 5
d_seconds_bucket{t=\"x\",le=\"+Inf\"} 6
d_seconds_sum{t=\"x\"} 99.5
d_seconds_count{t=\"x\"} 6
";
        assert_eq!(text.render(), expected);
    }

    #[test]
    fn label_values_and_help_are_escaped() {
        let mut text = MetricsText::new();
        text.gauge("g", "a\\b\nc", &[("l", "quote\" back\\ line\nend")], f64::NAN);
        let expected = "# HELP g a\\\\b\\nc\n# TYPE g gauge\n\
                        g{l=\"quote\\\" back\\\\ line\\nend\"} NaN\n";
        assert_eq!(text.render(), expected);
    }

    #[test]
    fn a_name_of_two_kinds_keeps_the_first() {
        let mut text = MetricsText::new();
        text.counter("x", "One.", &[], 1);
        text.gauge("x", "Two.", &[], 2.0);
        assert_eq!(text.render(), "# HELP x One.\n# TYPE x counter\nx 1\n");
    }

    #[test]
    fn infinities_are_spelled_as_the_format_wants() {
        assert_eq!(number(f64::INFINITY), "+Inf");
        assert_eq!(number(f64::NEG_INFINITY), "-Inf");
        assert_eq!(number(0.1), "0.1");
    }

    proptest! {
        #[test]
        fn no_name_or_label_breaks_the_lines(
            name in ".{0,20}", help in "(?s).{0,20}", label in ".{0,10}", value in "(?s).{0,20}",
        ) {
            let mut text = MetricsText::new();
            text.counter(&name, &help, &[(&label, &value)], 7);
            let text = text.render();
            // By the newline alone: the format knows no other line ends.
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert_eq!(lines.len(), 4);
            prop_assert!(lines[0].starts_with("# HELP ") && lines[1].starts_with("# TYPE "));
            let sample_ends = lines[2].ends_with("\"} 7");
            prop_assert!(sample_ends && lines[3].is_empty());
        }
    }
}
