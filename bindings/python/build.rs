//! Linker arguments of extension modules where the platform needs some.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
