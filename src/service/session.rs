//! Opening a session for the person whom the identity platform names.

use super::answer::OpenedSession;
use super::state::AppState;
use super::thread::Service;
use crate::clock::Time;
use crate::identity::AssertionNumber;
use crate::person::{MaskedIdentity, MaskedName, Profile};
use crate::refusal::Refusal;
use crate::seal::Session;

impl Service {
    /// Opens a session. A first one registers the resident.
    pub(super) async fn open_session(
        &self,
        profile: Profile,
        number: AssertionNumber,
        now: Time,
    ) -> Result<OpenedSession, Refusal> {
        let AppState { seal, settings, .. } = &*self.app;
        let who = seal.identify(&profile.document);
        self.app.limit_desk_rate(who)?;
        let steps = self.desk(now).register(who, &profile).await?;
        // Marked as used last, so that a refused log-in can be repeated with the same assertion.
        self.desk(now).use_assertion(number, None).await?;
        let masked = MaskedIdentity {
            name: MaskedName::of(profile.name.as_deref().unwrap_or_default()),
            cert_no: profile.document.mask(),
            assurance: profile.assurance,
        };
        let expires_at = now.plus(settings.session_life);
        let session = Session {
            identity: who,
            steps,
            member: None,
            masked,
            issued_at: now,
            expires_at,
        };
        Ok(OpenedSession {
            session: seal.session(&self.nonces, &session),
            expires_at,
            masked,
        })
    }
}
