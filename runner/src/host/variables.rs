//! `spin:variables@3.0.0`

use std::sync::atomic::Ordering::Relaxed;

use wasmtime::component::{Accessor, HasSelf};

use super::{
    State,
    wit::spin::variables::variables::{Error, Host, HostWithStore},
};

impl Host for State {}

impl<T: 'static> HostWithStore<T> for HasSelf<State> {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> wasmtime::Result<Result<String, Error>> {
        Ok(accessor.with(|mut access| {
            let shared = &access.get().shared;
            shared.calls.variables.fetch_add(1, Relaxed);
            shared.variables.get(&name).cloned().ok_or(Error::Undefined(name))
        }))
    }
}
