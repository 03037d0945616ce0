//! Wakes one thread at a time of the wall clock, also where that clock is set or the machine slept:
//! a router without a battery begins in 1970 and learns the time later. Between alarms nothing
//! runs.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::base::clock::Timestamp;

/// A thread that calls at a time of the wall clock.
pub struct Alarm {
    timer: OwnedFd,
    nudge: OwnedFd,
}

impl Alarm {
    /// # Errors
    /// The system is out of descriptors.
    pub fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Alarm {
            timer: timerfd_create(TimerfdClockId::Realtime, flags)?,
            nudge: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Ends the wait that is under way, or else the next one.
    pub fn nudge(&self) {
        // It fails only where 2^64 nudges were not noticed.
        let _ = rustix::io::write(&self.nudge, &1_u64.to_ne_bytes());
    }

    /// Waits until then, for ever without a time; shorter where it is nudged or the clock is set.
    ///
    /// # Errors
    /// The system cannot wait.
    pub fn wait(&self, until: Option<Timestamp>) -> io::Result<()> {
        if self.arm(until)? {
            let mut fds = [
                PollFd::new(&self.timer, PollFlags::IN),
                PollFd::new(&self.nudge, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Whatever they say, they are not to say it again. The timer's read fails where the clock
        // was set.
        for fd in [&self.timer, &self.nudge] {
            let _ = rustix::io::read(fd, &mut [0_u8; 8]);
        }
        Ok(())
    }

    /// False if the clock was set just now (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
    fn arm(&self, until: Option<Timestamp>) -> io::Result<bool> {
        // All zeros disarm a timer.
        let nanos = until.map_or(0, |until| until.0.max(1));
        let timer = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: nanos / 1_000_000_000,
                tv_nsec: nanos % 1_000_000_000,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(&self.timer, flags, &timer) {
            Ok(_) => Ok(true),
            Err(Errno::CANCELED) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::base::clock;

    #[test]
    fn it_rings_at_the_time_and_not_before() {
        let alarm = Alarm::new().unwrap();
        let until = clock::now().after(Duration::from_millis(30));
        while clock::now() < until {
            alarm.wait(Some(until)).unwrap();
        }
        // A time that has passed is now.
        alarm.wait(Some(Timestamp(i64::MIN))).unwrap();
        alarm.wait(Some(until)).unwrap();
    }

    #[test]
    fn a_nudge_ends_a_wait_without_end_also_where_it_came_before() {
        let alarm = Arc::new(Alarm::new().unwrap());
        alarm.nudge();
        alarm.wait(None).unwrap();
        let waiting = alarm.clone();
        let waiter = thread::spawn(move || waiting.wait(None));
        alarm.nudge();
        waiter.join().unwrap().unwrap();
    }
}
