/** What a newcomer sees while there are no events: a command that posts the first. */
import classes from './FirstEvent.module.css';
import { CopyButton } from './CopyButton';

const BODY = `'{"name":"temperature","value":21.5,"dimensions":{"room":"hall"}}'`;

export function FirstEvent() {
  const command = `curl -H 'content-type: application/json' \\\n  -d ${BODY} \\\n  ${window.location.origin}/api/v1/metrics`;
  return (
    <section className={classes['first']} data-testid="first-event">
      <h2>No events yet</h2>
      <p>Post one from a terminal. It appears here within a moment, without reloading.</p>
      <div className={classes['command']}>
        <pre>{command}</pre>
        <div className={classes['bar']}>
          <CopyButton label="Copy the command" text={() => command} />
        </div>
      </div>
      <p>
        Or let the program make some: <code>streamgauge simulate</code>. Other forms of events are described
        under <a href="/docs">API</a>.
      </p>
    </section>
  );
}
