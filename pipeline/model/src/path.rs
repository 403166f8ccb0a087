//! Names of parameters.

/// Where a traversal stands in the module tree. Burn tells a visitor each field that it enters and leaves; `ParamId`s are
/// random and differ between runs, so nothing on disk uses them.
#[derive(Debug, Default)]
pub struct ModulePath(Vec<String>);

impl ModulePath {
    /// Call from `enter_module`.
    pub fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    /// Call from `exit_module`.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// The parameter's name in a checkpoint, such as `model.layers.0.mlp.up_proj.weight`.
    pub fn name(&self) -> String {
        self.0.join(".")
    }
}
