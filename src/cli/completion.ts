/** `wharf completion bash`: a script that completes commands and flags, made of the program's own tree. */

export interface CommandTree {
  name(): string;
  readonly commands: readonly CommandTree[];
  readonly options: readonly { readonly long?: string | undefined }[];
}

interface Choice {
  /** Of the commands before it: ` vdisk create`. */
  readonly path: string;
  readonly words: readonly string[];
}

/** What may follow each command: its commands, or its flags where it has none. */
function choicesOf(tree: CommandTree, path = ''): Choice[] {
  const names = tree.commands.map((command) => command.name());
  const flags = [...tree.options.flatMap(({ long }) => long ?? []), '--help'];
  const inner = tree.commands.flatMap((command) => choicesOf(command, `${path} ${command.name()}`));
  return [{ path, words: names.length > 0 ? names : flags }, ...inner];
}

/** What is no flag of a command is a file: bash completes those itself. */
export function bashCompletion(program: CommandTree): string {
  const choices = choicesOf(program);
  const known = choices.flatMap(({ path }) => (path === '' ? [] : `'${path}'`));
  const rows = choices.map(({ path, words }) => `    '${path}') words='${words.join(' ')}' ;;\n`);
  return `# Completes wharf in bash: source <(wharf completion bash)
_wharf() {
  local current=\${COMP_WORDS[COMP_CWORD]} path='' words='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path $word" in
      ${known.join(' | ')}) path="$path $word" ;;
    esac
  done
  case "$path" in
${rows.join('')}  esac
  COMPREPLY=()
  [[ $words == --* && $current != -* ]] && return
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F _wharf wharf
`;
}
