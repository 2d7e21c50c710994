//! Which levels of wildcard filters are `+`: the bound of what a match costs.
//!
//! Two nodes of one depth that both match a topic's beginning differ in where their `+` are, for with `+` in the same
//! places their other levels are the topic's and they are the same node. So a match never visits more nodes than there
//! are shapes, and limiting shapes limits the cost of every match without limiting filters.

use crate::limits::WILDCARD_SHAPES_PER_TENANT_MAX;
use slab::Slab;

const NONE: u32 = u32::MAX;

/// The shapes of one tenant's wildcard filters, with every shape's beginnings.
pub(super) struct Shapes {
    nodes: Slab<Node>,
    root: u32,
}

struct Node {
    /// Behind a named level, behind `+`.
    next: [u32; 2],
    /// Filters whose shape begins with this one.
    filters: u32,
}

impl Shapes {
    pub(super) fn new() -> Shapes {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node { next: [NONE; 2], filters: 0 }) as u32;
        Shapes { nodes, root }
    }

    /// Notes a filter, by whether each of its levels before a `#` is `+`. False, and nothing noted, if there would be too
    /// many shapes.
    pub(super) fn add(&mut self, shape: impl Iterator<Item = bool> + Clone) -> bool {
        let mut at = self.root;
        let mut known = 0;
        for any in shape.clone() {
            at = self.nodes[at as usize].next[usize::from(any)];
            if at == NONE {
                break;
            }
            known += 1;
        }
        if self.nodes.len() + shape.clone().count() - known > WILDCARD_SHAPES_PER_TENANT_MAX {
            return false;
        }
        let mut at = self.root;
        for any in shape {
            let mut next = self.nodes[at as usize].next[usize::from(any)];
            if next == NONE {
                next = self.nodes.insert(Node { next: [NONE; 2], filters: 0 }) as u32;
                self.nodes[at as usize].next[usize::from(any)] = next;
            }
            self.nodes[next as usize].filters += 1;
            at = next;
        }
        true
    }

    /// Forgets a filter that was noted.
    pub(super) fn remove(&mut self, shape: impl Iterator<Item = bool>) {
        let mut at = self.root;
        let mut kept = true;
        for any in shape {
            let next = self.nodes[at as usize].next[usize::from(any)];
            if !kept {
                self.nodes.remove(at as usize);
            }
            let node = &mut self.nodes[next as usize];
            node.filters -= 1;
            if kept && node.filters == 0 {
                kept = false;
                self.nodes[at as usize].next[usize::from(any)] = NONE;
            }
            at = next;
        }
        if !kept {
            self.nodes.remove(at as usize);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_counted_once_and_forgotten_with_their_last_filter() {
        let mut shapes = Shapes::new();
        for _ in 0..2 {
            assert!(shapes.add([false, true, false].into_iter()));
            assert!(shapes.add([false, true].into_iter()));
        }
        assert!(shapes.add([true].into_iter()));
        assert_eq!(shapes.len(), 5);
        shapes.remove([false, true, false].into_iter());
        assert_eq!(shapes.len(), 5);
        shapes.remove([false, true, false].into_iter());
        assert_eq!(shapes.len(), 4);
        shapes.remove([false, true].into_iter());
        shapes.remove([false, true].into_iter());
        shapes.remove([true].into_iter());
        assert_eq!(shapes.len(), 1);
    }

    #[test]
    fn a_shape_too_many_is_refused_and_leaves_nothing() {
        let mut shapes = Shapes::new();
        for bits in 0..1u32 << 11 {
            assert!(shapes.add((0..11).map(move |level| bits >> level & 1 == 1)));
        }
        let len = shapes.len();
        assert!(!shapes.add((0..13).map(|_| true)));
        assert!(shapes.add((0..11).map(|_| true)));
        assert_eq!(shapes.len(), len);
        assert!(len <= WILDCARD_SHAPES_PER_TENANT_MAX);
    }
}
