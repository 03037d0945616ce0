use super::*;

/// Time in the simulations goes on by this much a step.
const STEP: Duration = Duration::from_millis(5);

/// A host in simulated time, and many threads that want to send it requests one after the other.
struct Simulation {
    limit: HostLimit,
    now: Instant,
    /// When each thread's request ends, where one is under way.
    threads: Vec<Option<Instant>>,
    /// How long a request takes.
    takes: Duration,
    sent: usize,
    refused: usize,
}

impl Simulation {
    fn new(threads: usize, takes: Duration) -> Simulation {
        let now = Instant::now();
        Simulation {
            limit: HostLimit::new(now),
            now,
            threads: vec![None; threads],
            takes,
            sent: 0,
            refused: 0,
        }
    }

    /// Goes on for so long with a host that takes what `takes` says, which is told how many
    /// requests are under way and the time.
    fn run(&mut self, time: Duration, mut takes: impl FnMut(usize, Instant) -> bool) {
        let end = self.now + time;
        (self.sent, self.refused) = (0, 0);
        while self.now < end {
            for thread in 0..self.threads.len() {
                if self.threads[thread].is_some_and(|at| at <= self.now) {
                    self.threads[thread] = None;
                    self.limit.end(thread, self.now);
                }
            }
            let before = self.threads.iter().flatten().count();
            let mut seats = before;
            let mut asked = Vec::new();
            for thread in 0..self.threads.len() {
                let idle = self.threads[thread].is_none();
                if idle && self.limit.begin(thread, self.now).is_ok() {
                    let good = takes(seats, self.now);
                    seats += usize::from(good);
                    asked.push((thread, good));
                }
            }
            self.sent += asked.len();
            for (thread, good) in asked {
                if good {
                    self.limit.answered(self.now);
                    self.threads[thread] = Some(self.now + self.takes);
                } else {
                    self.refused += 1;
                    self.limit.refused(None, self.now);
                    self.limit.end(thread, self.now);
                }
            }
            self.now += STEP;
        }
    }

    fn assert_few_refused(&self) {
        let (refused, sent) = (self.refused, self.sent);
        assert!(refused * 20 <= sent, "{refused} of {sent} were refused");
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_host_that_refuses_nothing_is_not_limited() {
    let mut simulation = Simulation::new(24, SECOND);
    simulation.run(3 * SECOND, |_, _| true);
    assert!(!simulation.limit.is_limited());
    assert_eq!(simulation.sent, 72);
}

#[test]
fn a_host_that_takes_three_at_once_gets_three() {
    let mut simulation = Simulation::new(24, SECOND / 10);
    let takes = |seats, _| seats < 3;
    simulation.run(SECOND, takes);
    for _ in 0..10 {
        simulation.run(6 * SECOND, takes);
        simulation.assert_few_refused();
        // 3 at once for 6 s, and a tenth for what changes hands.
        let good = simulation.sent - simulation.refused;
        assert!(good >= 160, "{good} requests");
    }
}

#[test]
fn tries_become_rarer_where_they_fail() {
    let mut simulation = Simulation::new(24, SECOND / 10);
    let takes = |seats, _| seats < 3;
    simulation.run(10 * SECOND, takes);
    simulation.run(20 * SECOND, takes);
    let early = simulation.refused;
    simulation.run(20 * SECOND, takes);
    let late = simulation.refused;
    assert!(late < early && early > 0, "{late} after {early}");
}

#[test]
fn a_host_that_takes_more_from_some_time_on_gets_more() {
    let mut simulation = Simulation::new(24, SECOND / 10);
    simulation.run(10 * SECOND, |seats, _| seats < 4);
    simulation.run(30 * SECOND, |seats, _| seats < 10);
    simulation.assert_few_refused();
    simulation.run(10 * SECOND, |seats, _| seats < 10);
    simulation.assert_few_refused();
    assert!(simulation.sent > 800, "{} requests", simulation.sent);
}

#[test]
fn a_host_that_takes_fewer_from_some_time_on_gets_fewer() {
    let mut simulation = Simulation::new(24, SECOND / 10);
    simulation.run(10 * SECOND, |seats, _| seats < 10);
    simulation.run(SECOND, |seats, _| seats < 2);
    simulation.run(20 * SECOND, |seats, _| seats < 2);
    simulation.assert_few_refused();
}

#[test]
fn a_host_that_takes_so_many_for_each_second_is_given_time() {
    for each_second in [2, 10, 50] {
        let mut simulation = Simulation::new(24, STEP);
        let mut next = Instant::now();
        let mut takes = |_, now| {
            let good = now >= next;
            if good {
                next = now + SECOND / each_second;
            }
            good
        };
        simulation.run(60 * SECOND, &mut takes);
        simulation.run(120 * SECOND, &mut takes);
        simulation.assert_few_refused();
        let good = simulation.sent - simulation.refused;
        let most = 120 * each_second as usize;
        assert!(good * 2 >= most, "{good} of {most}");
    }
}

/// One that refuses every second request, whatever it is, looks like one that counts them for each
/// second. When that is over, it has its speed back within a minute and a half.
#[test]
fn after_an_overload_all_come_back_soon() {
    let mut host = Simulation::new(24, Duration::from_millis(20));
    let mut number = 0;
    host.run(Duration::from_secs(60), |_, _| {
        number += 1;
        number % 2 == 0
    });
    host.run(Duration::from_secs(90), |_, _| true);
    host.run(Duration::from_secs(10), |_, _| true);
    assert!(host.sent > 1000, "{} requests in ten seconds", host.sent);
}

/// Once in two seconds is little enough for a limit to be found by few refusals.
#[test]
fn a_host_that_takes_one_in_two_seconds_is_seldom_asked_too_soon() {
    let mut host = Simulation::new(8, Duration::from_millis(20));
    let mut next: Option<Instant> = None;
    let mut takes = |_: usize, now: Instant| {
        let good = next.is_none_or(|at| now >= at);
        if good {
            next = Some(now + Duration::from_secs(2));
        }
        good
    };
    host.run(Duration::from_secs(600), &mut takes);
    host.run(Duration::from_secs(3000), &mut takes);
    assert!(
        host.refused * 20 <= host.sent,
        "{} of {}",
        host.refused,
        host.sent
    );
    assert!(host.sent >= 600, "{}", host.sent);
}

#[test]
fn after_an_outage_all_come_back_quickly() {
    let mut simulation = Simulation::new(24, SECOND / 10);
    simulation.run(5 * SECOND, |_, _| true);
    simulation.run(60 * SECOND, |_, _| false);
    simulation.run(5 * SECOND, |_, _| true);
    simulation.run(SECOND, |_, _| true);
    assert!(simulation.sent >= 200, "{} requests", simulation.sent);
}

#[test]
fn the_wait_that_a_host_asks_for_holds_up_others_only_where_none_is_under_way() {
    let now = Instant::now();
    let wait = Some(2 * SECOND);
    let mut limit = HostLimit::new(now);
    limit.begin(1, now).unwrap();
    limit.begin(2, now).unwrap();
    limit.refused(wait, now);
    limit.end(2, now);
    assert_eq!(limit.begin(2, now), Err(Hold::UntilFreed));
    limit.end(1, now);
    let now = now + SECOND;
    assert_eq!(limit.begin(1, now), Ok(()));
    limit.refused(wait, now);
    limit.end(1, now);
    assert_eq!(limit.begin(1, now), Err(Hold::Until(now + 2 * SECOND)));
    assert_eq!(limit.begin(1, now + 2 * SECOND), Ok(()));
}

#[test]
fn what_ended_makes_room_for_another_connection_a_little_later() {
    let now = Instant::now();
    let mut limit = HostLimit::new(now);
    limit.begin(1, now).unwrap();
    limit.begin(2, now).unwrap();
    limit.refused(None, now);
    limit.end(2, now);
    let later = now + SECOND;
    limit.end(1, later);
    assert_eq!(limit.begin(2, later), Err(Hold::Until(later + SETTLE)));
    assert_eq!(limit.begin(1, later), Ok(()));
}

#[test]
fn a_limit_that_nobody_feels_is_forgotten() {
    let now = Instant::now();
    let mut limit = HostLimit::new(now);
    limit.begin(1, now).unwrap();
    limit.refused(None, now);
    limit.end(1, now);
    assert!(limit.is_limited());
    limit.begin(1, now + FORGET).unwrap();
    assert!(!limit.is_limited());
}
