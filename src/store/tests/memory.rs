//! What is read at one time is bounded in bytes, however large records are.

use super::*;

const MIB: usize = 1 << 20;

/// A JSON string of so many bytes.
fn text(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

#[test]
fn a_record_that_is_too_long_is_measured_and_not_read() {
    let (store, _) = in_memory();
    let sizes = [10, 20, 30, 2000, 40];
    let events =
        sizes.iter().zip(1..).map(|(bytes, n)| event_with(&format!("k{n}"), "t", &["s"], &text(*bytes)));
    write(&store, events.collect());
    let read =
        |deliveries: &[u64], max_bytes: usize| match wait(store.records(deliveries.to_vec(), max_bytes))
            .unwrap()
        {
            DueRecords::Read(records) => records.iter().map(|record| record.body.len()).collect(),
            DueRecords::TooLong { bytes } => vec![0, bytes],
        };
    assert_eq!(read(&[1, 2, 3], 60), [10, 20, 30]);
    assert_eq!(read(&[1, 2, 3], 59), [10, 20]);
    assert_eq!(read(&[1, 2, 3, 4, 5], 100), [10, 20, 30], "order is kept: the last one would fit");
    assert_eq!(read(&[4, 5], 1999), [0, 2000]);
    assert_eq!(read(&[4, 5], 2000), [2000]);
    assert_eq!(read(&[9, 4], 100), [0, 2000], "one that is gone is no record");
    assert_eq!(read(&[9], 0), [0; 0]);
}

#[test]
fn pages_end_where_they_have_enough_bytes() {
    let (store, recovered) = in_memory();
    let interaction = |n: usize| {
        let Op::Event(mut new) = event_with(&format!("k{n}"), "t", &[], &text(3 * MIB)) else {
            unreachable!()
        };
        new.kind = "interaction";
        Op::Event(new)
    };
    (0..5).for_each(|n| write(&store, vec![interaction(n)]));
    (0..5).for_each(|n| write(&store, vec![settle(&format!("t{n}"), Some(&text(3 * MIB)))]));
    let page = wait(store.interactions(500, None)).unwrap();
    assert_eq!(page.len(), 2);
    let next = wait(store.interactions(500, Some(page[1].id))).unwrap();
    assert_eq!((next.len(), next[0].id), (2, page[1].id - 1));
    // What is read page by page is read to its end all the same.
    assert_eq!(recovered.conversations().map(Result::unwrap).count(), 5);
}
