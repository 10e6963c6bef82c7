//! Where health and metrics are served, and who may read the metrics there.

use super::{Check, NO_VARIABLE, VARIABLE};
use crate::config::mistake::Mistake;
use crate::config::{Http, Listen, schema};

impl Check {
    pub(super) fn http(&mut self, raw: &schema::Http) -> Http {
        let (place, token) = (&raw.listen, raw.token.as_ref());
        let listen = self.ok(place.span(), place.get_ref().parse()).unwrap_or(Listen::Off);
        if let Some(token) = token.filter(|token| !token.get_ref().names_a_variable()) {
            self.report(Mistake::at(token.span(), NO_VARIABLE).help(VARIABLE));
        }
        if listen.is_public() && token.is_none() {
            let message = format!("others reach {}, and no token is named", place.get_ref());
            self.report(Mistake::at(place.span(), message).help(
                "listen at loopback, such as 127.0.0.1:8080, or name the environment variable that \
                 holds the token: token = { env = \"NAME\" }",
            ));
        }
        Http { listen, token: token.map(|token| token.get_ref().clone()) }
    }
}
