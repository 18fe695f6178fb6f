/**
 * The operator's console. The token comes in the address (`?token=`) or by hand; it is kept for this tab only and
 * taken out of the address at once, so that it stays out of the history and of what people copy.
 */
import { signal } from '@preact/signals'
import { render } from 'preact'
import { Console } from './console.tsx'
import { Operator } from './operator.ts'
import { SignIn } from './sign-in.tsx'
import { Watch } from './watch.ts'

interface Session {
  operator: Operator
  watch: Watch
}

const TOKEN = 'crowdgrad.operator-token'
const session = signal<Session | null>(null)

function open(token: string) {
  sessionStorage.setItem(TOKEN, token)
  const operator = new Operator(token)
  session.value = { operator, watch: new Watch(operator) }
}

function leave() {
  session.value?.watch.close()
  sessionStorage.removeItem(TOKEN)
  session.value = null
}

const address = new URL(location.href)
const given = address.searchParams.get('token')
if (given !== null) {
  address.searchParams.delete('token')
  history.replaceState(null, '', address)
}
const token = given || sessionStorage.getItem(TOKEN)
if (token) open(token)

function App() {
  const current = session.value
  if (current === null) return <SignIn refused={false} onToken={open} />
  if (current.watch.link.value.state === 'refused') {
    return (
      <SignIn
        refused
        onToken={(next) => {
          leave()
          open(next)
        }}
      />
    )
  }
  return <Console operator={current.operator} watch={current.watch} onLeave={leave} />
}

render(<App />, document.getElementById('app')!)
