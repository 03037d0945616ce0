//! The package token: fetched when first needed, renewed once for all workers together.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::base::backoff::Backoff;
use crate::base::locks;
use crate::base::secret::Secret;
use crate::model::problem::{Code, Problem};
use crate::model::request::DownloadRequest;
use crate::upstream::{Client, Fault, Package, Place, Watch};

/// A renewed token that is refused sooner than this after it was fetched is not renewed again: what
/// was refused is not the token, and a link is never resolved in a tight loop.
const YOUNGEST_RENEWAL: Duration = Duration::from_secs(5);

/// What the link led to, and the token of the moment.
#[derive(Default)]
pub struct Session {
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    package: Option<Arc<Package>>,
    /// When the token took the place of one that was refused.
    renewed: Option<Instant>,
    generation: u64,
    /// The link was read since the token was last asked for by [`Session::take_new_token`].
    is_new: bool,
    /// The last reading of the link failed.
    failure: Option<Failure>,
}

/// A reading of the link that failed: everybody who needs it before the next one is due is told so.
struct Failure {
    fault: SessionFault,
    backoff: Backoff,
}

/// Why a call with the token came to nothing.
#[derive(Debug, Clone)]
pub enum SessionFault {
    /// The link itself is refused: nothing of the download can go on.
    Link(Problem),
    /// The call failed for a reason of its own.
    Call(Fault),
}

impl Session {
    /// Starts with what POST has read already, if it has.
    pub fn new(package: Option<Package>) -> Session {
        Session {
            current: Mutex::new(Current {
                package: package.map(Arc::new),
                ..Current::default()
            }),
        }
    }

    /// The package's identifier and name; reads the link if that was not done yet.
    ///
    /// # Errors
    /// See [`SessionFault`].
    pub fn package(
        &self,
        client: &Client,
        order: &DownloadRequest,
        watch: &Watch,
    ) -> Result<Arc<Package>, SessionFault> {
        Ok(self.token(client, order, watch)?.0)
    }

    /// Makes a call with the token; where it is refused, renews the token and makes it once more.
    ///
    /// # Errors
    /// See [`SessionFault`].
    pub fn call<T>(
        &self,
        client: &Client,
        order: &DownloadRequest,
        watch: &Watch,
        mut call: impl FnMut(&Place<'_>) -> Result<T, Fault>,
    ) -> Result<T, SessionFault> {
        let mut renewed = false;
        loop {
            let (package, generation) = self.token(client, order, watch)?;
            let none = Secret::new("");
            let token = package.token.as_ref().unwrap_or(&none);
            let place = Place {
                api: &order.link.api,
                package_id: &package.package_id,
                token,
            };
            match call(&place) {
                Err(fault @ (Fault::Unauthorized | Fault::Forbidden(_))) if !renewed => {
                    if !self.renew(generation, client, order, watch)? {
                        return Err(SessionFault::Call(fault));
                    }
                    renewed = true;
                }
                result => return result.map_err(SessionFault::Call),
            }
        }
    }

    fn token(
        &self,
        client: &Client,
        order: &DownloadRequest,
        watch: &Watch,
    ) -> Result<(Arc<Package>, u64), SessionFault> {
        let mut current = self.lock();
        if let Some(package) = &current.package {
            return Ok((package.clone(), current.generation));
        }
        let package = current.resolve(client, order, watch)?;
        Ok((package, current.generation))
    }

    /// Replaces the token of `generation`, unless another worker has. False: the token is a fresh
    /// one.
    ///
    /// # Errors
    /// See [`SessionFault`].
    fn renew(
        &self,
        generation: u64,
        client: &Client,
        order: &DownloadRequest,
        watch: &Watch,
    ) -> Result<bool, SessionFault> {
        let mut current = self.lock();
        if current.generation != generation {
            return Ok(true);
        }
        if current
            .renewed
            .is_some_and(|at| at.elapsed() < YOUNGEST_RENEWAL)
        {
            return Ok(false);
        }
        current.resolve(client, order, watch)?;
        current.renewed = Some(Instant::now());
        Ok(true)
    }

    /// The token, where the link was read since this was last asked: it is to be remembered. A link
    /// may count how often it is read, or be closed while its token is still good.
    pub fn take_new_token(&self) -> Option<Secret> {
        let mut current = self.lock();
        let is_new = std::mem::take(&mut current.is_new);
        let package = current.package.as_ref().filter(|_| is_new)?;
        package.token.clone()
    }

    /// Whether the last reading of the link failed.
    pub fn has_failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        locks::lock(&self.current)
    }
}

impl Current {
    fn resolve(
        &mut self,
        client: &Client,
        order: &DownloadRequest,
        watch: &Watch,
    ) -> Result<Arc<Package>, SessionFault> {
        if let Some(fault) = self.last_failure(Instant::now()) {
            return Err(fault);
        }
        let package = client
            .resolve(&order.link, order.password.as_ref(), watch)
            .map_err(|fault| self.failed(link_fault(fault, order.password.as_ref())))?;
        let package = Arc::new(package);
        self.package = Some(package.clone());
        self.generation += 1;
        self.is_new = true;
        self.failure = None;
        Ok(package)
    }

    /// What the last reading of the link came to, where the next one is not due yet.
    fn last_failure(&self, now: Instant) -> Option<SessionFault> {
        let failure = self.failure.as_ref()?;
        let wait = failure.backoff.due().checked_duration_since(now)?;
        if wait.is_zero() {
            return None;
        }
        Some(match &failure.fault {
            // It counts as an answer that makes no sense for the one who got it.
            SessionFault::Call(Fault::Malformed(message)) => {
                asks_for(Some(wait), Fault::transient(message.clone()))
            }
            SessionFault::Call(fault) => asks_for(Some(wait), fault.clone()),
            link => link.clone(),
        })
    }

    /// Remembers a failure. The fault that is returned asks for the wait until the next reading.
    fn failed(&mut self, fault: SessionFault) -> SessionFault {
        let asked = match &fault {
            SessionFault::Call(Fault::Stopped) => return fault,
            SessionFault::Call(Fault::Transient { retry_after, .. }) => *retry_after,
            _ => None,
        };
        let now = Instant::now();
        // Those who come again bring the jitter.
        let backoff = match self.failure.take() {
            Some(Failure { mut backoff, .. }) => {
                backoff.again(now, asked, 0.0);
                backoff
            }
            None => Backoff::new(now, asked, 0.0),
        };
        let wait = backoff.due().checked_duration_since(now);
        let told = match fault.clone() {
            SessionFault::Call(fault) => asks_for(wait, fault),
            link => link,
        };
        self.failure = Some(Failure { fault, backoff });
        told
    }
}

/// The fault, with so long to wait where it can be tried again.
fn asks_for(wait: Option<Duration>, fault: Fault) -> SessionFault {
    SessionFault::Call(match fault {
        Fault::Transient { message, .. } => Fault::Transient {
            message,
            retry_after: wait,
        },
        other => other,
    })
}

fn link_fault(fault: Fault, password: Option<&Secret>) -> SessionFault {
    let refused;
    let (code, message) = match fault {
        Fault::Unauthorized if password.is_some() => (
            Code::LinkPasswordWrong,
            "the link no longer accepts its password; ask the sender, then resume: what has \
             arrived stays. With another password, \
             delete this download and post the link again",
        ),
        Fault::Unauthorized => (
            Code::LinkPasswordWrong,
            "the link is refused, perhaps for want of a password; ask the sender, then resume: \
             what has arrived stays. With a \
             password, delete this download and post the link again",
        ),
        Fault::Forbidden(reason) => {
            refused = format!(
                "the server refuses the link: {reason}; ask the sender, then resume: what has \
                 arrived stays"
            );
            (Code::LinkRefused, refused.as_str())
        }
        Fault::NotFound => (
            Code::LinkNotFound,
            "the link does not exist any more; ask the sender for a new one",
        ),
        Fault::Gone => (
            Code::LinkExpired,
            "the link has expired or was deleted; ask the sender for a new one",
        ),
        Fault::Refused(answer) => {
            refused =
                format!("the server refuses the link ({answer}); ask the sender for a new one");
            (Code::LinkNotFound, refused.as_str())
        }
        other => return SessionFault::Call(other),
    };
    SessionFault::Link(Problem {
        code,
        message: message.into(),
        recoverable: matches!(code, Code::LinkRefused | Code::LinkPasswordWrong),
        retry_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn asked(fault: &SessionFault) -> Duration {
        match fault {
            SessionFault::Call(Fault::Transient { retry_after, .. }) => retry_after.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_failure_is_told_to_all_who_come_before_the_next_try_is_due() {
        let mut current = Current::default();
        assert!(current.last_failure(Instant::now()).is_none());
        let told = current.failed(SessionFault::Call(Fault::transient("no network")));
        assert!(asked(&told) > SECOND / 3 && asked(&told) < SECOND);
        let due = current.failure.as_ref().unwrap().backoff.due();
        let fault = current.last_failure(due - SECOND / 10).unwrap();
        assert_eq!(asked(&fault), SECOND / 10);
        assert!(current.last_failure(due + SECOND / 1000).is_none());
    }

    #[test]
    fn what_the_server_asks_for_is_waited_for() {
        let mut current = Current::default();
        let told = current.failed(SessionFault::Call(Fault::Transient {
            message: "busy".into(),
            retry_after: Some(20 * SECOND),
        }));
        assert!(asked(&told) > 19 * SECOND);
    }

    #[test]
    fn a_stop_is_no_failure() {
        let mut current = Current::default();
        current.failed(SessionFault::Call(Fault::Stopped));
        assert!(current.failure.is_none());
    }

    #[test]
    fn an_answer_without_sense_is_one_callers_and_a_refusal_is_everybodys() {
        let mut current = Current::default();
        let told = current.failed(SessionFault::Call(Fault::Malformed("no JSON".into())));
        assert!(matches!(told, SessionFault::Call(Fault::Malformed(_))));
        assert!(asked(&current.last_failure(Instant::now()).unwrap()) > SECOND / 3);
        current.failed(link_fault(Fault::Gone, None));
        let told = current.last_failure(Instant::now());
        assert!(matches!(told, Some(SessionFault::Link(_))));
    }
}
