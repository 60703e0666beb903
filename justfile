# Everyday commands; `just` lists them.

export RUST_BACKTRACE := "1"

default:
    @just --list

# All tests: unit and integration tests, then the examples in the documentation.
test *ARGS:
    cargo nextest run --workspace {{ARGS}}
    cargo test --workspace --doc

# Format, lints, spelling, licences.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    typos
    just deny

# Licences, duplicates and sources of the dependencies.
deny:
    cargo deny check licenses bans sources

# The documentation, warnings denied.
doc *ARGS:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps {{ARGS}}

# Times of a training step's parts.
bench *ARGS:
    cargo run --release -p neuralef-experiments --example network_step -- {{ARGS}}

# An example of the library: `just example laplace`.
example NAME:
    cargo run --release -p neuralef --example {{NAME}}

# One of the paper's experiments: `just experiment two_dimensional --small`.
experiment NAME *ARGS:
    cargo run --release -p neuralef-experiments --example {{NAME}} -- {{ARGS}}

# Comparisons with PyTorch, scikit-learn and NumPy (see benches/peers/README.md).
peers python=".venv/bin/python":
    test -x {{python}} || (python3 -m venv .venv && .venv/bin/pip install -r benches/peers/requirements.txt)
    cargo build --release -p neuralef-cli
    {{python}} benches/peers/parity.py
    {{python}} benches/peers/transform.py
    {{python}} benches/peers/recipe_c.py

# The Python package: wheel, fresh environments, tests (arguments go to pytest).
python *ARGS:
    .ci/python {{ARGS}}

# The guide: its links, and its shell blocks.
guide *PAGES:
    .ci/guide {{PAGES}}

# Fuzz the readers and parsers on the stable toolchain: `just fuzz 300 archive`.
fuzz seconds="60" *TARGETS:
    .ci/fuzz {{seconds}} {{TARGETS}}

# What the gate runs.
ci:
    bash .ci/run
