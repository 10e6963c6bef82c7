//! Messages in a queue on a given clock: hidden, again, dead, dropped, refused.
//! Not for the protocol.

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(secs).unwrap()
}

/// A queue `q` with visibility 30 s and dead letters to `dead` after two
/// receives.
fn queues() -> Queues {
    let mut queues = Queues::default();
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    let policy = format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":2}}"#, arn("dead"));
    let mut settings = Settings::default();
    settings.apply(&BTreeMap::from([("RedrivePolicy".to_owned(), policy)])).unwrap();
    queues.create("q", Queue::new(arn("q"), settings, at(0))).unwrap();
    queues.create("dead", Queue::new(arn("dead"), Settings::default(), at(0))).unwrap();
    queues
}

fn send(queues: &mut Queues, body: &str, delay_secs: Option<u32>, now: i64) {
    let message = Outgoing {
        id: format!("id-{body}"),
        body: body.to_owned(),
        attributes: MessageAttributes::new(),
        delay_secs,
    };
    queues.get_mut("q").unwrap().send(message, at(now)).unwrap();
}

fn receive(queues: &mut Queues, name: &str, now: i64) -> Vec<Delivery> {
    queues.receive(name, 10, None, at(now)).unwrap().deliveries
}

fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.body.as_str()).collect()
}

#[test]
fn a_message_is_hidden_for_its_visibility_and_then_comes_again() {
    let mut queues = queues();
    send(&mut queues, "a", None, 0);
    assert_eq!(bodies(&receive(&mut queues, "q", 0)), ["a"]);
    assert_eq!(queues.get("q").unwrap().next_change(), Some(at(30)));
    assert!(receive(&mut queues, "q", 29).is_empty());
    let again = receive(&mut queues, "q", 30);
    assert_eq!((again[0].receives, again[0].first_received), (2, at(0)));
}

#[test]
fn a_delayed_message_appears_when_due() {
    let mut queues = queues();
    send(&mut queues, "a", Some(5), 0);
    let depth = queues.get("q").unwrap().depth();
    assert_eq!(depth, Depth { visible: 0, in_flight: 0, delayed: 1 });
    assert!(receive(&mut queues, "q", 4).is_empty());
    assert_eq!(bodies(&receive(&mut queues, "q", 5)), ["a"]);
    let depth = queues.get("q").unwrap().depth();
    assert_eq!(depth, Depth { visible: 0, in_flight: 1, delayed: 0 });
}

#[test]
fn only_the_newest_receipt_deletes() {
    let mut queues = queues();
    send(&mut queues, "a", None, 0);
    let old = receive(&mut queues, "q", 0).remove(0).receipt;
    let new = receive(&mut queues, "q", 30).remove(0).receipt;
    assert_ne!(old, new);
    let queue = queues.get_mut("q").unwrap();
    queue.delete(&old).unwrap();
    assert_eq!(queue.depth().in_flight, 1);
    queue.delete(&new).unwrap();
    queue.delete(&new).unwrap();
    assert_eq!(queue.depth().in_flight, 0);
    let refused = queue.delete("no receipt").map_err(|e| e.code);
    assert_eq!(refused, Err("ReceiptHandleIsInvalid"));
}

#[test]
fn visibility_can_be_changed_while_in_flight_only() {
    let mut queues = queues();
    send(&mut queues, "a", None, 0);
    let receipt = receive(&mut queues, "q", 0).remove(0).receipt;
    let queue = queues.get_mut("q").unwrap();
    queue.change_visibility(&receipt, 100, at(10)).unwrap();
    assert_eq!(queue.next_change(), Some(at(110)));
    queue.change_visibility(&receipt, 0, at(20)).unwrap();
    assert_eq!(queue.depth().visible, 1);
    let code = |result: Result<(), ApiError>| result.map_err(|e| e.code);
    let again = queue.change_visibility(&receipt, 5, at(20));
    assert_eq!(code(again), Err("MessageNotInflight"));
    queue.delete(&receipt).unwrap();
    let gone = queue.change_visibility(&receipt, 5, at(20));
    assert_eq!(code(gone), Err("InvalidParameterValue"));
}

#[test]
fn what_is_received_too_often_becomes_a_dead_letter() {
    let mut queues = queues();
    send(&mut queues, "a", None, 0);
    assert_eq!(receive(&mut queues, "q", 0).len(), 1);
    assert_eq!(receive(&mut queues, "q", 30).len(), 1);
    let third = queues.receive("q", 10, None, at(60)).unwrap();
    assert_eq!(third, Received { deliveries: Vec::new(), moved: true });
    let dead = receive(&mut queues, "dead", 60).remove(0);
    assert_eq!((dead.body.as_str(), dead.id.as_str(), dead.receives), ("a", "id-a", 1));
    assert!(dead.source.unwrap().ends_with(":q"));
}

#[test]
fn messages_are_dropped_after_the_retention() {
    let mut queues = queues();
    let retention = i64::from(Settings::default().retention_secs);
    send(&mut queues, "old", None, 0);
    send(&mut queues, "new", None, 1);
    assert_eq!(bodies(&receive(&mut queues, "q", retention)), ["new"]);
}

#[test]
fn too_long_and_empty_messages_are_refused() {
    let mut queues = queues();
    let queue = queues.get_mut("q").unwrap();
    let max = queue.settings.message_bytes_max;
    for (length, expected) in
        [(0, Err("MissingParameter")), (max, Ok(())), (max + 1, Err("InvalidParameterValue"))]
    {
        let message = Outgoing { body: "x".repeat(length), ..Outgoing::default() };
        assert_eq!(queue.send(message, at(0)).map_err(|e| e.code), expected, "{length}");
    }
}

#[test]
fn creating_again_needs_the_same_settings() {
    let mut queues = queues();
    let arn = queues.get("dead").unwrap().arn.clone();
    let same = Queue::new(arn.clone(), Settings::default(), at(9));
    assert_eq!(queues.create("dead", same), Ok(()));
    let settings = Settings { visibility_secs: 1, ..Settings::default() };
    let other = queues.create("dead", Queue::new(arn, settings, at(9)));
    assert_eq!(other.map_err(|e| e.code), Err("QueueNameExists"));
}
