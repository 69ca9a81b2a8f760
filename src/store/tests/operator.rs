//! What an operator does to a store.

use std::collections::BTreeSet;

use super::*;

#[test]
fn dead_letters_are_listed_retried_under_a_new_number_and_dropped() {
    let (store, _) = in_memory();
    write(&store, (0..5).map(|n| event(&format!("k{n}"), "t", &[if n < 3 { "a" } else { "b" }])).collect());
    write(&store, (1..=5).map(|id| dead(id, "400: no")).collect());
    let mut announced = store.deliveries();
    announced.mark_unchanged();
    let list = |sink: Option<&str>| {
        let letters = wait(store.dead_letters(sink.map(Arc::from), 0, 99, true)).unwrap();
        letters.iter().map(|letter| letter.id).collect::<Vec<_>>()
    };
    assert_eq!((list(None), list(Some("b"))), (vec![1, 2, 3, 4, 5], vec![4, 5]));
    assert_eq!(wait(store.dead_letter(1)).unwrap().unwrap().answer, "400: no");

    assert_eq!(wait(store.retry_dead_letters(DeadLetters::Ids(vec![2, 2, 77]))).unwrap(), 1);
    assert!(announced.has_changed().unwrap(), "couriers are woken");
    assert_eq!(wait(store.drop_dead_letters(DeadLetters::Sink("b".into()))).unwrap(), 2);
    assert_eq!((list(None), due(&store, "a")), (vec![1, 3], vec![6]));
    assert_eq!(wait(store.retry_dead_letters(DeadLetters::All)).unwrap(), 2);
    assert_eq!((list(None), due(&store, "a").len()), (vec![], 3));
    store.flush(PATIENCE).unwrap();
    let backlog = wait(store.backlog()).unwrap().sinks;
    assert_eq!(backlog["a"].deliveries, 3);
}

#[test]
fn a_period_is_read_to_its_end_in_the_order_of_time_a_page_at_a_time() {
    let (store, _) = in_memory();
    let at = |key: u64, at: u64| match event_with(&format!("k{key}"), "t", &[], &format!("b{key}")) {
        Op::Event(event) => Op::Event(Box::new(NewEvent { at: UnixMillis(at), ..*event })),
        other => other,
    };
    // The clock of a later process may have been set back.
    write(&store, (0..3000).map(|n| at(n, 1000 + n / 2)).chain([at(5000, 1100)]).collect());
    let period = Period { since: UnixMillis(1100), until: UnixMillis(2400) };
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = wait(store.events_in(period, Some("interaction"), after)).unwrap();
        found.extend(page.rows.iter().map(|row| (row.at.0, row.body.clone())));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 2601);
    assert!(found.is_sorted_by_key(|(at, _)| *at));
    assert!(found.iter().any(|(_, body)| body == "b5000"));
    assert_eq!(wait(store.events_in(period, Some("feedback"), None)).unwrap().rows, []);
}

#[test]
fn events_are_made_due_once_more_in_their_lanes() {
    let (store, _) = in_memory();
    write(&store, vec![event("k1", "t", &["s"]), event("k2", "t", &["s"]), event("k3", "t", &["s"])]);
    write(&store, vec![Op::Delivered { id: 1 }, dead(2, "no")]);
    assert_eq!(wait(store.make_due("s".into(), vec![1, 2, 3, 99])).unwrap(), 2);
    let records = records(&store, due(&store, "s"));
    assert_eq!(records.iter().map(|record| &*record.body).collect::<Vec<_>>(), ["k3", "k1", "k2"]);
    assert!(wait(store.dead_letters(None, 0, 9, false)).unwrap().is_empty());
}

#[test]
fn what_is_erased_is_in_no_table_and_in_no_byte_of_the_files() {
    let dir = TempDir::new().unwrap();
    let (store, _) = open(dir.path());
    let secret = |n: usize| format!("SECRET-{n} {}", "s3cr3t ".repeat(400 * (n % 3)));
    let body = |user: &str, n: usize| {
        format!(
            r#"{{"interaction":{{"attribution":{{"user":{{"userId":"{user}"}}}},"text":"{}"}}}}"#,
            secret(n)
        )
    };
    // Much of it was deleted before, in the ordinary way.
    for n in 0..40 {
        write(&store, vec![journal(&format!("t{n}"), &body("u-eve-1", n))]);
        write(
            &store,
            vec![
                event_with(&format!("k{n}"), &format!("t{n}"), &["s"], &body("u-eve-1", n)),
                settle(&format!("t{n}"), Some(&body("u-eve-1", n))),
            ],
        );
    }
    write(
        &store,
        vec![
            journal("open", &body("u-eve-1", 2)),
            remember("open", UnixMillis(4_000_000_000_000), "SECRET"),
            event_with("before", "open", &[], "no user yet SECRET"),
        ],
    );
    write(&store, vec![event_with("other", "other", &["s"], r#"{"user":{"userId":"adam"},"text":"KEPT"}"#)]);
    write(
        &store,
        vec![
            Op::User { id: "u-eve-1".to_owned(), body: body("u-eve-1", 1) },
            dead(1, "no"),
            Op::Delivered { id: 2 },
        ],
    );
    assert!(holds(dir.path(), "SECRET"), "the test looks where it is");

    let subject = Subject::User("u-eve-1".to_owned());
    let conversations = wait(store.conversations_of(&subject)).unwrap();
    assert_eq!(conversations.len(), 41);
    let erased = wait(store.erase(&subject, &conversations)).unwrap();
    assert_eq!((erased.events, erased.deliveries, erased.dead_letters), (41, 38, 1));
    assert_eq!((erased.observations, erased.states), (1, 42));
    wait(store.scrub()).unwrap();
    assert!(!holds(dir.path(), "SECRET"));
    assert!(!holds(dir.path(), "u-eve-1"));
    assert!(holds(dir.path(), "KEPT"));
    assert_eq!(due(&store, "s").len(), 1);
    assert_eq!(wait(store.conversations_of(&subject)).unwrap(), BTreeSet::new());
}

#[test]
fn a_user_is_known_by_the_whole_id_and_only_where_it_is_one() {
    let (store, _) = in_memory();
    let body = |text: &str| event_with(text, text, &[], text);
    write(
        &store,
        vec![
            body(r#"{"user":{"userId":"a\"b"}}"#),
            body(r#"{"user":{"userId":"a\"bc"}}"#),
            body(r#"{"text":"userId a\"b"}"#),
            body(r#"{"n":[{"user":{"email":"e","userId":"a\"b"}}]}"#),
        ],
    );
    let found = wait(store.conversations_of(&Subject::User("a\"b".to_owned()))).unwrap();
    let found: Vec<&str> = found.iter().map(|key| &*key.id).collect();
    assert_eq!(found, [r#"{"n":[{"user":{"email":"e","userId":"a\"b"}}]}"#, r#"{"user":{"userId":"a\"b"}}"#]);
}

fn holds(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
