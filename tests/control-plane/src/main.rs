//! Runs a control plane for a person: `control-plane KUBECONFIG [USER…]` writes the admin's kubeconfig to a file, and the
//! one of each user beside it, under the same name with `.USER` added. It runs until it is interrupted.

use std::error::Error;
use std::path::PathBuf;

use control_plane::{ADMIN, ControlPlane, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let kubeconfig = PathBuf::from(arguments.next().ok_or("usage: control-plane KUBECONFIG [USER…]")?);
    let users: Vec<String> = arguments.collect();
    let plane = ControlPlane::start(&Options { users: users.clone(), controller_manager: true, ..Options::default() })?;
    plane.write_kubeconfig(ADMIN, &kubeconfig)?;
    for user in &users {
        plane.write_kubeconfig(user, &PathBuf::from(format!("{}.{user}", kubeconfig.display())))?;
    }
    println!("{} is ready. Logs and data: {}", plane.server_url(), plane.directory().display());
    println!("kubectl --kubeconfig {}", kubeconfig.display());
    loop {
        std::thread::park();
    }
}
