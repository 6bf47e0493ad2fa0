/** The way down: the metric, then each filter and the group, all of which can be taken away again. */
import type { UpdateState } from '../hooks/useUrlState';
import { filterText, toggleFilter } from '../state/filters';
import type { PageState } from '../state/url';
import classes from './Explore.module.css';
import { CloseIcon } from './icons';

interface ChipProps {
  label: string;
  value: string;
  onRemove: () => void;
}

function Chip({ label, value, onRemove }: ChipProps) {
  return (
    <span className={classes['chip']} data-testid="chip">
      <span className={classes['chipLabel']}>{label}</span>
      {value || '(none)'}
      <button type="button" aria-label={`Remove ${label} ${value}`} onClick={onRemove}>
        <CloseIcon size={12} />
      </button>
    </span>
  );
}

export function Breadcrumbs({ state, update }: { state: PageState; update: UpdateState }) {
  const isNarrowed = state.filters.length > 0 || state.group !== null;
  return (
    <div className={classes['crumbs']}>
      <h1 className={classes['title']} data-testid="title">{state.metric}</h1>
      {state.filters.map((filter) => (
        <Chip
          key={filterText(filter)} label={filter.dimension} value={filter.value}
          onRemove={() => update({ filters: toggleFilter(state.filters, filter) })}
        />
      ))}
      {state.group && <Chip label="by" value={state.group} onRemove={() => update({ group: null })} />}
      {isNarrowed && (
        <button type="button" className={classes['clear']} onClick={() => update({ filters: [], group: null })}>
          Clear
        </button>
      )}
    </div>
  );
}
