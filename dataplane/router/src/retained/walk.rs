//! Finding topics that match a filter in an ordered map, in steps that can be interrupted.
//!
//! A key is a topic with U+0000, which no topic contains [MQTT5-1.5.4-2], for `/`. So the order of keys is the order of
//! their levels: what begins with the same levels is together, and the first key behind it is known. The walk looks at a
//! key and either takes it or computes the smallest key behind it that could match, and goes there: names that a filter
//! has are looked up, levels it skips are skipped with all that is below them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Bytes of a key that are compared for one step.
const KEY_BYTES_A_STEP: usize = 1024;

/// A place in a tenant's topics: where a walk goes on. It stays good whatever changes, with the same filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetainedCursor(Bound<String>);

/// A filter, taken apart.
pub(super) struct Wanted<'f> {
    /// The levels before `#`.
    levels: Vec<&'f str>,
    /// It ends with `#`.
    rest: bool,
}

enum Verdict {
    Matches,
    /// Nothing before this key does; it is behind the one that was judged.
    Behind(String),
    /// Nothing behind the key that was judged does.
    End,
}

/// The key of a topic.
pub(super) fn key(topic: &str) -> String {
    topic.replace('/', "\0")
}

/// The key of a topic, in place of what `key` held.
pub(super) fn write_key(topic: &str, key: &mut String) {
    key.clear();
    for (at, level) in topic.split('/').enumerate() {
        if at > 0 {
            key.push('\0');
        }
        key.push_str(level);
    }
}

/// The topic of a key.
pub(super) fn topic(key: &str) -> String {
    key.replace('\0', "/")
}

impl<'f> Wanted<'f> {
    pub(super) fn new(filter: &'f str) -> Wanted<'f> {
        let mut levels: Vec<_> = filter.split('/').collect();
        let rest = levels.last() == Some(&"#");
        if rest {
            levels.pop();
        }
        Wanted { levels, rest }
    }

    /// Calls `each` for every key that matches, from where `after` says; where to go on when `limit` steps are done.
    pub(super) fn walk<V>(
        &self,
        entries: &BTreeMap<Arc<str>, V>,
        after: Option<RetainedCursor>,
        limit: usize,
        mut each: impl FnMut(&str, &V),
    ) -> Option<RetainedCursor> {
        let start = after.map_or_else(|| Bound::Included(self.named(0)), |cursor| cursor.0);
        let mut left = limit.max(1);
        let mut keys = range(entries, start.as_ref());
        loop {
            let (key, entry) = keys.next()?;
            let behind = match self.judge(key) {
                Verdict::Matches => {
                    each(key, entry);
                    None
                }
                Verdict::Behind(key) => Some(key),
                Verdict::End => return None,
            };
            left = left.saturating_sub(1 + key.len() / KEY_BYTES_A_STEP);
            if left == 0 {
                let excluded = || Bound::Excluded(key.to_string());
                return Some(RetainedCursor(behind.map_or_else(excluded, Bound::Included)));
            }
            if let Some(behind) = behind {
                keys = range(entries, Bound::Included(&behind));
            }
        }
    }

    /// Whether a key matches, and where to look if not.
    fn judge(&self, key: &str) -> Verdict {
        // A wildcard in the first level does not match what begins with "$" [MQTT-4.7.2-1]; "%" is next.
        if key.starts_with('$') && self.levels.first().is_none_or(|level| *level == "+") {
            return Verdict::Behind("%".to_owned());
        }
        let mut from = 0;
        let mut past_any = None;
        let mut ended = false;
        for (at, wanted) in self.levels.iter().enumerate() {
            if ended {
                let below = self.named(at);
                return Verdict::Behind([key, "\0", &below].concat());
            }
            let end = key[from..].find('\0').map_or(key.len(), |length| from + length);
            let level = &key[from..end];
            if *wanted == "+" {
                past_any = Some(end);
            } else if level < *wanted {
                return Verdict::Behind([&key[..from], &self.named(at)].concat());
            } else if level > *wanted {
                return past(key, past_any);
            }
            ended = end == key.len();
            from = end + 1;
        }
        if ended || self.rest { Verdict::Matches } else { past(key, past_any) }
    }

    /// The named levels that follow one another from level `at` on, as part of a key.
    fn named(&self, at: usize) -> String {
        let named = self.levels[at..].split(|level| *level == "+").next();
        named.unwrap_or_default().join("\0")
    }
}

/// Behind everything that begins with the key up to the last level that any would do for.
fn past(key: &str, any: Option<usize>) -> Verdict {
    any.map_or(Verdict::End, |end| Verdict::Behind([&key[..end], "\x01"].concat()))
}

fn range<'e, V>(
    entries: &'e BTreeMap<Arc<str>, V>,
    from: Bound<&String>,
) -> impl Iterator<Item = (&'e Arc<str>, &'e V)> + use<'e, V> {
    entries.range::<str, _>((from.map(String::as_str), Bound::Unbounded))
}
