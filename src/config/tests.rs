use super::*;
#[test]
fn try_it() {
    let options =
        Options { strictness: Strictness::Run, variables: Default::default(), data_dir: None, host: "h".into() };
    match Config::load(Path::new("routes.yaml"), &options) {
        Ok((config, warnings)) => println!("{config:#?}\n{warnings}"),
        Err(errors) => panic!("{errors}"),
    }
}
