// SPDX-License-Identifier: GPL-2.0

//! The kernel's `#[kunit_tests(suite)] mod tests { ... }`: on the host a module of tests like any other.

use proc_macro::TokenStream;

/// The module, for tests only.
#[proc_macro_attribute]
pub fn kunit_tests(_suite: TokenStream, module: TokenStream) -> TokenStream {
    let mut out: TokenStream = "#[cfg(test)]".parse().expect("an attribute");
    out.extend(module);
    out
}
