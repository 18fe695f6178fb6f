/** Asks for the operator's token; whether it is right, the coordinator says. */
import { useEffect, useRef } from 'preact/hooks'
import { Mark } from '../mark.tsx'

export function SignIn({ refused, onToken }: { refused: boolean; onToken: (token: string) => void }) {
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => field.current?.focus(), [])
  return (
    <main class="sign-in">
      <Mark note="console" />
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault()
          const token = field.current!.value.trim()
          if (token !== '') onToken(token)
        }}
      >
        <h1>Sign in</h1>
        <label class="field">
          <span>Operator token</span>
          <input
            ref={field}
            type="password"
            required
            autocomplete="current-password"
            aria-invalid={refused}
            aria-describedby="token-hint"
          />
        </label>
        <p id="token-hint" class={refused ? 'error' : 'hint'} role={refused ? 'alert' : undefined}>
          {refused
            ? 'The coordinator refused this token. Check it and try again.'
            : 'The coordinator prints it when it starts. It is kept for this tab only.'}
        </p>
        <button class="button primary" type="submit">
          Open the console
        </button>
      </form>
    </main>
  )
}
