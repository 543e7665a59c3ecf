//! The administrator's routes.

mod check;
mod egress;
mod keys;
mod openapi;
mod reports;
mod selection;
mod session;
mod settings;
mod transfer;

pub use session::is_password;

use http::Method;

use crate::{
    error::ApiError,
    handlers::{Context, read_json},
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
        Admin::Check => check::answer(context, request).await,
        Admin::Export => transfer::export(&context, &request.query).await,
        Admin::Import => transfer::import(&context, request).await,
        Admin::Egress => egress::show(&context).await,
        Admin::Endpoints => reports::endpoints(&context).await,
        Admin::Stats => reports::stats(&context, &request.query).await,
        Admin::Events => reports::events(&context, &request.query).await,
        Admin::DryRun => reports::route(&context, &request.query).await,
        Admin::Settings if request.method == Method::PUT => {
            settings::change(&context, read_json(&context, request).await?).await
        }
        Admin::Settings => settings::show(&context).await,
        Admin::Sessions if request.method == Method::DELETE => {
            session::revoke(&context, read_json(&context, request).await?).await
        }
        Admin::Sessions => session::list(&context, &request).await,
        Admin::OpenApi => openapi::show(),
        Admin::Login | Admin::Logout | Admin::Session => Err(ApiError::internal("This route was answered above.")),
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        Self::database(&error.to_string())
    }
}
