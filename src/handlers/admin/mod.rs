//! The administrator's routes.

mod keys;
mod session;

use crate::{
    error::ApiError,
    handlers::Context,
    ports::{Ports, Request, Response, SqlError},
    routes::Admin,
};

/// Answers the administrator.
pub async fn answer<P: Ports>(
    context: Context<P>,
    route: Admin,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    match route {
        Admin::Login => return session::login(&context, request).await,
        Admin::Session => return session::show(&context, &request).await,
        Admin::Logout => return session::logout(&context, &request).await,
        _ => {}
    }
    session::require(&context, &request).await?;
    match route {
        Admin::Keys => keys::answer(&context, request).await,
        Admin::Secret(id) => keys::secret(&context, id).await,
        _ => Err(ApiError::not_found(
            "unknown_url",
            "This part of the administrator's API does not exist in this version.",
        )),
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        Self::database(&error.to_string())
    }
}
