/** The SQL editor: highlighting, completion of tables and columns, Ctrl-Enter to run. */
import { acceptCompletion, autocompletion, closeBrackets, closeCompletion, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { sql, SQLDialect } from '@codemirror/lang-sql';
import { bracketMatching, HighlightStyle, syntaxHighlighting } from '@codemirror/language';
import { Compartment, EditorState, Prec } from '@codemirror/state';
import { EditorView, drawSelection, keymap, lineNumbers, placeholder } from '@codemirror/view';
import { tags } from '@lezer/highlight';

/** What DataFusion understands, so that columns such as `name` and `value` are not taken for keywords. */
const dialect = SQLDialect.define({
  keywords: 'all and any as asc between by case cast cross current desc distinct else end except exists explain extract '
    + 'filter first following from full group having in inner intersect interval is join last lateral left like ilike '
    + 'limit natural not nulls offset on or order outer over partition preceding range recursive right row rows select '
    + 'show tables similar then unbounded union unnest using values when where window with',
  types: 'bigint boolean date double float int integer smallint text time timestamp varchar',
  builtin: 'abs approx_percentile_cont array_agg avg ceil coalesce concat count date_bin date_trunc first_value floor '
    + 'lag last_value lead lower max median min now nullif rank round row_number stddev sum to_timestamp upper',
  operatorChars: '*+-%<>!=&|~^/',
  identifierQuotes: '"',
});

const highlight = HighlightStyle.define([
  { tag: tags.keyword, color: 'var(--sg-sql-keyword)', fontWeight: '600' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--sg-sql-string)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--sg-sql-number)' },
  { tag: [tags.typeName, tags.standard(tags.name)], color: 'var(--sg-sql-type)' },
  { tag: tags.comment, color: 'var(--mantine-color-dimmed)', fontStyle: 'italic' },
]);

const look = EditorView.theme({
  '&': { fontSize: '13px', height: '100%' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mantine-font-family-monospace)', lineHeight: '1.6' },
  '.cm-content': { caretColor: 'var(--mantine-color-text)', padding: '10px 0' },
  '.cm-cursor': { borderLeftColor: 'var(--mantine-color-text)' },
  '.cm-gutters': { background: 'transparent', border: 'none', color: 'var(--mantine-color-dimmed)', opacity: '0.7' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': {
    background: 'color-mix(in srgb, var(--sg-accent) 28%, transparent)',
  },
  '.cm-tooltip': {
    background: 'var(--sg-panel)', border: '1px solid var(--sg-border)', borderRadius: '6px', color: 'inherit',
  },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { background: 'var(--sg-selected)', color: 'inherit' },
});

export type Tables = Record<string, string[]>;

export interface SqlEditorHandle {
  text: () => string;
  setText: (text: string) => void;
  setTables: (tables: Tables) => void;
  insert: (text: string) => void;
  close: () => void;
}

export interface EditorInput {
  text: string;
  tables: Tables;
  onRun: () => void;
  onChange: (text: string) => void;
}

const language = (tables: Tables) => sql({ dialect, schema: tables, upperCaseKeywords: true });

export function openEditor(parent: HTMLElement, { text, tables, onRun, onChange }: EditorInput): SqlEditorHandle {
  const languageSlot = new Compartment();
  const run = (editor: EditorView) => {
    closeCompletion(editor);
    onRun();
    return true;
  };
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        Prec.highest(keymap.of([{ key: 'Mod-Enter', run }, { key: 'Tab', run: acceptCompletion }])),
        keymap.of([...completionKeymap, ...defaultKeymap, ...historyKeymap]),
        history(), drawSelection(), lineNumbers(), bracketMatching(), closeBrackets(), autocompletion({ icons: false }),
        EditorView.lineWrapping, placeholder('SELECT …'), syntaxHighlighting(highlight), look,
        EditorView.contentAttributes.of({ 'aria-label': 'SQL statement', spellcheck: 'false' }),
        EditorView.updateListener.of((change) => change.docChanged && onChange(change.state.doc.toString())),
        languageSlot.of(language(tables)),
      ],
    }),
  });
  return {
    text: () => view.state.doc.toString(),
    setText: (next) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: next } }),
    setTables: (next) => view.dispatch({ effects: languageSlot.reconfigure(language(next)) }),
    insert: (piece) => {
      view.dispatch(view.state.replaceSelection(piece));
      view.focus();
    },
    close: () => view.destroy(),
  };
}
