//! One tenant's filters: which of them match a topic.
//!
//! Filters without wildcards are keys of a map, found by one look-up of the whole topic however deep it is. Filters with
//! wildcards are a tree of levels, walked level by level with all nodes that match so far. A level's text is looked up
//! once per topic; the tree itself is keyed by numbers.
//!
//! Hashing: texts come from peers, so they are hashed with the standard library's keyed SipHash. The tree's edges are
//! pairs of numbers given out here; a keyed multiplication spreads them at a fraction of the cost, and a peer can
//! neither choose them nor see the key.
//!
//! Invariants
//! - No recursion; a match visits at most [`crate::WILDCARD_SHAPES_PER_TENANT_MAX`] nodes (see `shapes`) and reads
//!   the topic once, up to the level no wildcard filter reaches.
//! - A filter that was removed leaves no node behind.

use super::shapes::Shapes;
use crate::RouteRefused;
use crate::limits::WILDCARD_NODES_PER_TENANT_MAX;
use slab::Slab;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

const NONE: u32 = u32::MAX;

/// The filters, each with the slot of its audience.
pub(super) struct Filters {
    exact: HashMap<Box<str>, u32>,
    levels: Levels,
    nodes: Slab<Node>,
    edges: HashMap<u64, u32, EdgeHashing>,
    shapes: Shapes,
    root: u32,
}

/// Nodes that match a topic so far; kept by the caller to be used again.
#[derive(Default, Debug)]
pub(super) struct Walk {
    live: Vec<u32>,
    next: Vec<u32>,
    #[cfg(test)]
    pub(super) visited: usize,
}

/// A beginning of a wildcard filter.
#[derive(Clone, Copy)]
struct Node {
    /// Behind `+`.
    any: u32,
    /// How many edges lead on by named levels.
    named: u32,
    /// Audience of the filter that ends here.
    here: u32,
    /// Audience of the filter that goes on with `#`.
    rest: u32,
}

const EMPTY: Node = Node { any: NONE, named: 0, here: NONE, rest: NONE };

impl Filters {
    pub(super) fn new() -> Filters {
        let mut nodes = Slab::new();
        let root = nodes.insert(EMPTY) as u32;
        Filters {
            exact: HashMap::new(),
            levels: Levels::default(),
            nodes,
            edges: HashMap::with_hasher(EdgeHashing::new()),
            shapes: Shapes::new(),
            root,
        }
    }

    /// The audience of `filter`.
    pub(super) fn find(&self, filter: &str) -> Option<u32> {
        if !has_wildcards(filter) {
            return self.exact.get(filter).copied();
        }
        let mut at = self.root;
        for level in named_levels(filter) {
            at = self.step(at, level)?;
        }
        let node = &self.nodes[at as usize];
        let audience = if takes_rest(filter) { node.rest } else { node.here };
        (audience != NONE).then_some(audience)
    }

    /// Adds a filter that is not there.
    pub(super) fn insert(&mut self, filter: &str, audience: u32) -> Result<(), RouteRefused> {
        if !has_wildcards(filter) {
            self.exact.insert(filter.into(), audience);
            return Ok(());
        }
        let levels = named_levels(filter).count();
        if self.nodes.len() + levels > WILDCARD_NODES_PER_TENANT_MAX {
            return Err(RouteRefused::WildcardNodes);
        }
        if !self.shapes.add(shape(filter)) {
            return Err(RouteRefused::WildcardShapes);
        }
        let mut at = self.root;
        for level in named_levels(filter) {
            at = match self.step(at, level) {
                Some(next) => next,
                None => self.grow(at, level),
            };
        }
        let node = &mut self.nodes[at as usize];
        *(if takes_rest(filter) { &mut node.rest } else { &mut node.here }) = audience;
        Ok(())
    }

    /// Removes a filter that is there.
    pub(super) fn remove(&mut self, filter: &str) {
        if !has_wildcards(filter) {
            self.exact.remove(filter);
            if self.exact.capacity() > 64 && self.exact.len() < self.exact.capacity() / 4 {
                self.exact.shrink_to(self.exact.len() * 2);
            }
            return;
        }
        let mut path = vec![(self.root, "")];
        for level in named_levels(filter) {
            let at = path[path.len() - 1].0;
            let Some(next) = self.step(at, level) else { return };
            path.push((next, level));
        }
        self.shapes.remove(shape(filter));
        let node = &mut self.nodes[path[path.len() - 1].0 as usize];
        *(if takes_rest(filter) { &mut node.rest } else { &mut node.here }) = NONE;
        while let Some((at, level)) = path.pop() {
            let Some(&(parent, _)) = path.last() else { return };
            if !self.nodes[at as usize].is_empty() {
                return;
            }
            self.nodes.remove(at as usize);
            self.cut(parent, level);
        }
    }

    /// Calls `each` with the audience of every filter that matches `topic`.
    pub(super) fn matches(&self, topic: &str, walk: &mut Walk, mut each: impl FnMut(u32)) {
        if let Some(&audience) = self.exact.get(topic) {
            each(audience);
        }
        if self.nodes[self.root as usize].is_empty() {
            return;
        }
        let mut some = |audience: u32| {
            if audience != NONE {
                each(audience);
            }
        };
        let Walk { live, next, .. } = walk;
        live.clear();
        live.push(self.root);
        // A wildcard in the first level does not match what begins with "$" [MQTT-4.7.2-1].
        let mut hidden = topic.starts_with('$');
        for level in topic.split('/') {
            next.clear();
            #[cfg(test)]
            {
                walk.visited += live.len();
            }
            let mut number = None;
            for &at in live.iter() {
                let node = &self.nodes[at as usize];
                if !hidden {
                    some(node.rest);
                    if node.any != NONE {
                        next.push(node.any);
                    }
                }
                if node.named > 0
                    && let Some(number) = *number.get_or_insert_with(|| self.levels.number(level))
                    && let Some(&child) = self.edges.get(&edge(at, number))
                {
                    next.push(child);
                }
            }
            hidden = false;
            std::mem::swap(live, next);
            if live.is_empty() {
                return;
            }
        }
        for &at in live.iter() {
            // "sport/#" also matches "sport" (section 4.7.1.2).
            some(self.nodes[at as usize].rest);
            some(self.nodes[at as usize].here);
        }
    }

    /// Nodes of the tree, the root not counted.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len() - 1
    }

    fn step(&self, at: u32, level: &str) -> Option<u32> {
        if level == "+" {
            let any = self.nodes[at as usize].any;
            return (any != NONE).then_some(any);
        }
        self.edges.get(&edge(at, self.levels.number(level)?)).copied()
    }

    fn grow(&mut self, at: u32, level: &str) -> u32 {
        let child = self.nodes.insert(EMPTY) as u32;
        let node = &mut self.nodes[at as usize];
        if level == "+" {
            node.any = child;
        } else {
            node.named += 1;
            self.edges.insert(edge(at, self.levels.hold(level)), child);
        }
        child
    }

    fn cut(&mut self, at: u32, level: &str) {
        let node = &mut self.nodes[at as usize];
        if level == "+" {
            node.any = NONE;
        } else {
            node.named -= 1;
            if let Some(number) = self.levels.number(level) {
                self.edges.remove(&edge(at, number));
            }
            self.levels.release(level);
        }
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.any == NONE && self.named == 0 && self.here == NONE && self.rest == NONE
    }
}

/// The texts of named levels and their numbers.
#[derive(Default)]
struct Levels {
    numbers: HashMap<Box<str>, Level>,
    free: Vec<u32>,
    given: u32,
}

struct Level {
    number: u32,
    edges: u32,
}

impl Levels {
    fn number(&self, level: &str) -> Option<u32> {
        self.numbers.get(level).map(|level| level.number)
    }

    fn hold(&mut self, level: &str) -> u32 {
        if let Some(known) = self.numbers.get_mut(level) {
            known.edges += 1;
            return known.number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.given += 1;
            self.given - 1
        });
        self.numbers.insert(level.into(), Level { number, edges: 1 });
        number
    }

    fn release(&mut self, level: &str) {
        if let Some(known) = self.numbers.get_mut(level) {
            known.edges -= 1;
            if known.edges == 0 {
                self.free.push(known.number);
                self.numbers.remove(level);
            }
        }
    }
}

fn edge(at: u32, level: u32) -> u64 {
    u64::from(at) << 32 | u64::from(level)
}

fn has_wildcards(filter: &str) -> bool {
    // Most filters have none; the bytes are looked at before the levels.
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
        && filter.split('/').any(|level| level == "+" || level == "#")
}

/// The levels before `#`.
fn named_levels(filter: &str) -> impl Iterator<Item = &str> + Clone {
    filter.split('/').take_while(|level| *level != "#")
}

fn takes_rest(filter: &str) -> bool {
    filter == "#" || filter.ends_with("/#")
}

fn shape(filter: &str) -> impl Iterator<Item = bool> + Clone {
    named_levels(filter).map(|level| level == "+")
}

/// Spreads edges with a multiplication and two secret numbers.
#[derive(Clone)]
struct EdgeHashing {
    key: u64,
    factor: u64,
}

impl EdgeHashing {
    fn new() -> EdgeHashing {
        let secret = RandomState::new();
        EdgeHashing { key: secret.hash_one(0_u8), factor: secret.hash_one(1_u8) | 1 }
    }
}

impl BuildHasher for EdgeHashing {
    type Hasher = EdgeHasher;

    fn build_hasher(&self) -> EdgeHasher {
        EdgeHasher { state: self.key, factor: self.factor }
    }
}

struct EdgeHasher {
    state: u64,
    factor: u64,
}

impl Hasher for EdgeHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.state ^ number) * u128::from(self.factor);
        self.state = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.state
    }
}
