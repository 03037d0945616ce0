use std::sync::atomic::AtomicBool;
use std::thread;

use crossbeam_channel::{Receiver, unbounded};

use super::*;

const HOST: &str = "h:80";
const SOON: Duration = Duration::from_secs(20);

/// Permits of a host that is known to take one request at once, which is under way.
fn used_up(purpose: Purpose) -> (Arc<Permits>, Permit) {
    let permits: Arc<Permits> = Arc::default();
    let take = |thread| permits.acquire(HOST.into(), purpose, thread, &Watch::default());
    let (first, second) = (take(1).unwrap(), take(2).unwrap());
    second.refused(None);
    drop(second);
    assert!(permits.is_limited(HOST, purpose));
    (permits, first)
}

type Answers = Receiver<Result<Permit, Fault>>;

/// Another thread that asks for leave; returns once it waits.
fn waiter(permits: &Arc<Permits>, thread: usize, purpose: Purpose, watch: Watch) -> Answers {
    let before = permits.waiting();
    let (answer, answers) = unbounded();
    let own = permits.clone();
    thread::spawn(move || answer.send(own.acquire(HOST.into(), purpose, thread, &watch)));
    let end = Instant::now() + SOON;
    while permits.waiting() == before {
        assert!(Instant::now() < end, "it does not wait");
        thread::yield_now();
    }
    answers
}

impl Permits {
    fn waiting(&self) -> usize {
        let state = self.state();
        state.hosts.values().map(|host| host.waiting.len()).sum()
    }
}

#[test]
fn those_that_wait_have_their_turn_in_order() {
    let (permits, first) = used_up(Purpose::Bytes);
    let waits = |thread| waiter(&permits, thread, Purpose::Bytes, Watch::default());
    let waiting: Vec<Answers> = (2..6).map(waits).collect();
    drop(first);
    for (number, answers) in waiting.iter().enumerate() {
        let permit = answers.recv_timeout(SOON).unwrap().unwrap();
        assert_eq!(permits.waiting(), 3 - number);
        assert!(waiting.iter().all(crossbeam_channel::Receiver::is_empty));
        drop(permit);
    }
}

#[test]
fn who_is_told_to_stop_waits_no_longer() {
    let (permits, _first) = used_up(Purpose::Bytes);
    let stop: Arc<AtomicBool> = Arc::default();
    let watch = Watch {
        stop: stop.clone(),
        ..Watch::default()
    };
    let answers = waiter(&permits, 2, Purpose::Bytes, watch);
    stop.store(true, Ordering::Relaxed);
    let answer = answers.recv_timeout(SOON).unwrap();
    assert!(matches!(answer, Err(Fault::Stopped)));
    assert_eq!(permits.waiting(), 0);
}

#[test]
fn exactly_one_of_those_that_wait_leaves_where_a_thread_is_wanted_elsewhere() {
    let (permits, _first) = used_up(Purpose::Bytes);
    let (stop, wanted) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let watch = Watch {
        stop: Arc::clone(&stop),
        deadline: None,
        wanted: Some(wanted.clone()),
    };
    let waiting: Vec<Answers> = (2..5)
        .map(|thread| waiter(&permits, thread, Purpose::Bytes, watch.clone()))
        .collect();
    wanted.store(true, Ordering::Relaxed);
    let mut select = crossbeam_channel::Select::new();
    waiting.iter().for_each(|answers| {
        select.recv(answers);
    });
    let left = select.ready_timeout(SOON).unwrap();
    assert!(matches!(waiting[left].recv(), Ok(Err(Fault::Stopped))));
    assert!(!wanted.load(Ordering::Relaxed));
    assert_eq!(permits.waiting(), 2);
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn a_call_of_the_api_does_not_wait_for_bytes_nor_another_host() {
    let (permits, _first) = used_up(Purpose::Bytes);
    let watch = Watch::default();
    let api = permits.acquire(HOST.into(), Purpose::Api, 2, &watch);
    let other = permits.acquire("other:80".into(), Purpose::Bytes, 2, &watch);
    assert!(api.is_ok() && other.is_ok());
}

#[test]
fn a_host_that_counts_both_together_gets_fewer_of_the_other() {
    let permits: Arc<Permits> = Arc::default();
    let take = |purpose, thread| permits.acquire(HOST.into(), purpose, thread, &Watch::default());
    let _bytes: Vec<Permit> = (0..3)
        .map(|thread| take(Purpose::Bytes, thread).unwrap())
        .collect();
    take(Purpose::Api, 3).unwrap().refused(None);
    assert!(permits.is_limited(HOST, Purpose::Bytes));
}

#[test]
fn a_hostile_number_of_hosts_is_not_kept() {
    let permits: Arc<Permits> = Arc::default();
    let take = |host: usize| {
        let host = format!("h{host}:80");
        permits.acquire(host, Purpose::Bytes, 1, &Watch::default())
    };
    let held: Vec<Permit> = (0..2 * MAX_HOSTS).map(|n| take(n).unwrap()).collect();
    assert_eq!(permits.state().hosts.len(), MAX_HOSTS);
    drop(held);
    take(0).unwrap();
    take(MAX_HOSTS).unwrap();
    assert!(permits.state().hosts.len() <= MAX_HOSTS);
}
