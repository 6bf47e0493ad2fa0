/** A gauge above the water, and the name. */
import classes from './Header.module.css';

export function Logo() {
  return (
    <span className={classes['logo']}>
      <svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
        <rect width="32" height="32" rx="7" fill="#0b1f2a" />
        <g fill="none" strokeWidth="2.6" strokeLinecap="round">
          <path d="M6.5 20.5a10 10 0 1 1 19 0" stroke="#2dd4bf" />
          <path d="M16 17.5l4.6-5.6" stroke="#f8fafc" />
          <path d="M5.5 25.5q2.6-2.6 5.25 0t5.25 0 5.25 0 5.25 0" stroke="#38bdf8" />
        </g>
      </svg>
      <span className={classes['name']}>Streamgauge</span>
    </span>
  );
}
