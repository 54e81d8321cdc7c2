//! Properties of compiling and rendering, checked with generated sources and values.

use proptest::prelude::*;

use super::*;

proptest! {
    /// Simple templates render as minijinja renders them.
    #[test]
    fn simple_templates_render_like_minijinja(
        source in "([a.\\n\\r ]|\\{|\\}|%|#|\\{\\{ ?(tenant|session|message|id|nope)\\n?\\}\\}){0,8}"
    ) {
        let Some(simple) = SimpleTemplate::parse(&source, &EventSchema::Event) else { return Ok(()) };
        let jinja = JinjaTemplate::compile(&source, EventSchema::Event).expect("a simple template compiles");
        with_event(|view| {
            let by_jinja = |mode| jinja.render(mode, &view).map(|rendered| rendered.text);
            prop_assert_eq!(Ok(simple.render(view)), by_jinja(RenderMode::Text));
            prop_assert_eq!(simple.render_address(view), by_jinja(RenderMode::Address));
            prop_assert_eq!(simple.render_url(view), by_jinja(RenderMode::Url));
            prop_assert_eq!(simple.nullable(&EventSchema::Event), jinja.nullable());
            Ok(())
        })?;
    }

    #[test]
    fn inserted_text_is_rendered_unchanged(
        text in "([a\\\\\"'\n{}%#|-]|\\{\\{|\\}\\}|\\{%|raw|endraw|%\\}| ){0,12}"
    ) {
        let inserted = || Fragment::inserted(&*text);
        let tenant = || Fragment::written("{{ tenant }}");
        let render = |fragments: Vec<Fragment>| {
            let template = Template::compile_fragments(&fragments, EventSchema::Event).expect("whatever is inserted");
            with_event(|view| template.render(view)).expect("a text")
        };
        prop_assert_eq!(render(vec![Fragment::written("x{"), inserted(), Fragment::written("}"), tenant()]), format!("x{{{text}}}cnes-a"));
        let upper = Fragment::written("{{ tenant | upper -}}");
        prop_assert_eq!(render(vec![Fragment::written("{"), inserted(), upper.clone(), inserted()]), format!("{{{text}CNES-A{text}"));
        for (quote, length) in [("\"", "| length"), ("'", "|length")] {
            let open = Fragment::written(format!("{{{{ {quote}ab{{"));
            let rendered = render(vec![open, inserted(), Fragment::written(format!("{quote} {length} }}}}")), upper.clone()]);
            prop_assert_eq!(rendered, format!("{}CNES-A", 3 + text.chars().count()));
        }
        let raw = vec![Fragment::written("{% raw %}{{"), inserted(), Fragment::written("{% endraw %}{#"), inserted(), Fragment::written("#}")];
        prop_assert_eq!(render(raw), format!("{{{{{text}"));
    }

    #[test]
    fn no_source_makes_compiling_panic(source in "[{}%#|.a-e \"'\\\\\\n()\\[\\]-]{0,40}") {
        if let Ok(template) = Template::compile(&source) {
            with_event(|view| template.render(view)).ok();
        }
    }

    #[test]
    fn a_percent_encoded_value_is_one_segment_of_a_path(text in any::<String>()) {
        let mut encoded = String::new();
        percent_encode(&mut encoded, &text);
        let mut url = url::Url::parse("https://example.org/a/").expect("a URL");
        url.set_path(&format!("/a/{encoded}/b"));
        let pieces: Vec<_> = url.path_segments().expect("segments").collect();
        // URL parsers remove segments that are only dots.
        if !["", ".", ".."].contains(&text.as_str()) {
            prop_assert_eq!(pieces, ["a", encoded.as_str(), "b"]);
        }
    }
}
