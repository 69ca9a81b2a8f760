//! Settling before its turn, for a database that is full.

use std::collections::HashSet;

use crate::store::Op;
use crate::store::inbox::Write;

/// Moves the settlings among what waits to the front, each a write of its own: one that finds no room must not keep others from
/// making some. The journal rows that wait before a settling are dropped, as it would delete them; those after it keep their
/// place. Tells how many settlings there are.
///
/// What a conversation's journal holds on disk would otherwise stay there for good: the settling that frees it would wait behind
/// what finds no room.
pub(super) fn first(pending: &mut Vec<Write>) -> usize {
    let mut settled = HashSet::new();
    let mut settlings = Vec::new();
    for write in pending.iter_mut().rev() {
        let mut kept = Vec::with_capacity(write.ops.len());
        for op in write.ops.drain(..).rev() {
            match &op {
                Op::Settle { conversation, .. } => {
                    // Of several only the last one counts.
                    if settled.insert(conversation.clone()) {
                        settlings.push(op);
                    }
                }
                Op::Journal { conversation, .. } if settled.contains(conversation) => {}
                _ => kept.push(op),
            }
        }
        kept.reverse();
        write.ops = kept;
    }
    let count = settlings.len();
    // Their bytes stay on the account of the writes they came with, which are released later.
    let settlings = settlings.into_iter().rev().map(|op| Write { ops: vec![op], bytes: 0, written: None });
    pending.splice(..0, settlings);
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::ConversationKey;
    use crate::time::UnixMillis;

    #[test]
    fn settlings_go_first_and_take_the_journal_before_them_along() {
        let key = |id: &str| ConversationKey { upstream: "u".into(), id: id.into() };
        let journal = |id: &str, body: &str| Op::Journal {
            conversation: key(id),
            at: UnixMillis(0),
            body: body.to_owned(),
        };
        let settle =
            |id: &str, state: &str| Op::Settle { conversation: key(id), state: Some(state.to_owned()) };
        let write = |ops| Write { ops, bytes: 1, written: None };
        let mut pending = vec![
            write(vec![journal("a", "1"), journal("b", "1"), settle("a", "old")]),
            write(vec![Op::Delivered { id: 1 }, journal("a", "2")]),
            write(vec![settle("a", "new"), journal("a", "3")]),
        ];
        assert_eq!(first(&mut pending), 1);
        let shown: Vec<Vec<String>> = pending
            .iter()
            .map(|write| {
                let name = |op: &Op| match op {
                    Op::Journal { conversation, body, .. } => format!("{} {body}", conversation.id),
                    Op::Settle { conversation, state } => format!("{} {state:?}", conversation.id),
                    _ => "other".to_owned(),
                };
                write.ops.iter().map(name).collect()
            })
            .collect();
        assert_eq!(shown, [vec!["a Some(\"new\")"], vec!["b 1"], vec!["other"], vec!["a 3"]]);
        pending.remove(0);
        assert_eq!(first(&mut pending), 0);
    }
}
